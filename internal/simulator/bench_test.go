package simulator

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkList serves a collection of 100,000 items, in pages of 100, without the
// network: the simulator must never be what a benchmark of the product measures.
func BenchmarkList(b *testing.B) {
	s, token := benchmarked(b)
	page := 0
	b.ReportAllocs()
	for b.Loop() {
		address := "/v1.0/groups?$skiptoken=page-" + strconv.Itoa(page*100%100_000)
		page++
		serve(b, s, token, httptest.NewRequest(http.MethodGet, address, nil))
	}
	b.ReportMetric(float64(100*b.N)/b.Elapsed().Seconds(), "items/s")
}

// BenchmarkBatch serves batches of 20 child lists, as a reader of 100,000 items
// asks for them.
func BenchmarkBatch(b *testing.B) {
	s, token := benchmarked(b)
	p, err := s.collectionAt("/v1.0/groups")
	if err != nil {
		b.Fatal(err)
	}
	var parts []string
	for i := range maxParts {
		parts = append(parts, `{"id":"`+strconv.Itoa(i)+`","method":"GET","url":"/groups/`+string(s.appendID(nil, p, i*999))+
			`/owners?$select=id%2CdisplayName","headers":{"Prefer":"include-unknown-enum-members"}}`)
	}
	body := `{"requests":[` + strings.Join(parts, ",") + `]}`
	b.ReportAllocs()
	for b.Loop() {
		serve(b, s, token, httptest.NewRequest(http.MethodPost, "/v1.0/$batch", strings.NewReader(body)))
	}
	b.ReportMetric(float64(maxParts*b.N)/b.Elapsed().Seconds(), "parts/s")
}

func benchmarked(b *testing.B) (*Simulator, string) {
	b.Helper()
	s, err := New(Config{Items: 100_000})
	if err != nil {
		b.Fatal(err)
	}
	return s, "Bearer " + s.accessToken(application, 0, s.config.TokenLifetime)
}

func serve(b *testing.B, s *Simulator, token string, r *http.Request) {
	b.Helper()
	r.Header.Set("Authorization", token)
	w := httptest.NewRecorder()
	s.serveGraph(w, r)
	if w.Code != http.StatusOK || w.Body.Len() < 1000 {
		b.Fatal(w.Code, w.Body.String())
	}
}
