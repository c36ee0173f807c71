package graph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy.internal/internal/port"
)

const (
	benchItems = 2000
	benchPage  = 500
	benchDelay = 50 * time.Millisecond
)

// benchGraph answers a list of benchItems items of about 2 KB, each with a child
// of about 500 bytes, each request after benchDelay. It costs as little as it can,
// because it shares the machine with what is measured.
func benchGraph(address func() string) http.Handler {
	pages := make([][]byte, benchItems/benchPage)
	for p := range pages {
		var b bytes.Buffer
		b.WriteString(`{"value":[`)
		for i := range benchPage {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"id":"i%d","displayName":"Item","settings":[`, p*benchPage+i)
			for s := range 20 {
				fmt.Fprintf(&b, `{"@odata.type":"#microsoft.graph.setting","key":"setting-%d","value":%d,"enabled":true,"x":null},`, s, s*1000)
			}
			b.WriteString(`{}]}`)
		}
		b.WriteByte(']')
		pages[p] = b.Bytes()
	}
	child := `{"value":[` + strings.TrimSuffix(strings.Repeat(`{"id":"a","target":{"@odata.type":"#microsoft.graph.groupAssignmentTarget","groupId":"g"}},`, 5), ",") + `]}`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(benchDelay)
		if !strings.HasSuffix(r.URL.Path, "$batch") {
			n := 0
			fmt.Sscan(r.URL.Query().Get("page"), &n)
			w.Write(pages[n])
			if n+1 < len(pages) {
				fmt.Fprintf(w, `,"@odata.nextLink":"%s/v1.0/things?page=%d"`, address(), n+1)
			}
			io.WriteString(w, "}")
			return
		}
		body, _ := io.ReadAll(r.Body)
		n := bytes.Count(body, []byte(`"method"`))
		io.WriteString(w, `{"responses":[`)
		for i := range n {
			if i > 0 {
				io.WriteString(w, ",")
			}
			fmt.Fprintf(w, `{"id":"%d","status":200,"headers":{"Content-Type":"application/json"},"body":%s}`, i, child)
		}
		io.WriteString(w, `]}`)
	})
}

// BenchmarkRead reads 2,000 items with a child each at 50 ms a request, and
// compares it with the least HTTP work that fetches the same data: the pages one
// after the other, as they must be, and the children of each page in batches of 20
// over 16 connections as soon as the page is there, with nothing parsed.
func BenchmarkRead(b *testing.B) {
	var address string
	source, server := serve(b, benchGraph(func() string { return address }), func(c *Config) {
		c.Limits = map[string]Limit{"test": {Requests: 1_000_000, Per: time.Second}}
	})
	address = server.URL
	floor := func() time.Duration {
		start := time.Now()
		var group errgroup.Group
		slots := make(chan struct{}, 16)
		fetch := func(request *http.Request) {
			slots <- struct{}{}
			defer func() { <-slots }()
			response, err := server.Client().Do(request)
			if err != nil {
				b.Error(err)
				return
			}
			defer response.Body.Close()
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				b.Error(err)
			}
		}
		var parts []string
		for i := range batchSize {
			parts = append(parts, fmt.Sprintf(`{"id":"%d","method":"GET","url":"/things/i%d/c"}`, i, i))
		}
		body := `{"requests":[` + strings.Join(parts, ",") + `]}`
		for page := range benchItems / benchPage {
			request, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("%s/v1.0/things?page=%d", address, page), nil)
			fetch(request)
			for range benchPage / batchSize {
				group.Go(func() error {
					request, _ := http.NewRequest(http.MethodPost, address+"/v1.0/$batch", strings.NewReader(body))
					fetch(request)
					return nil
				})
			}
		}
		_ = group.Wait()
		return time.Since(start)
	}
	floor() // connections
	var own, least time.Duration
	for b.Loop() {
		start := time.Now()
		session := source.Open()
		n := 0
		if err := session.Read(b.Context(), withChild("/things"), &fakeIdentity{}, func(port.Item) error { n++; return nil }); err != nil || n != benchItems {
			b.Fatal(err, n)
		}
		session.Close()
		own += time.Since(start)
		least += floor()
	}
	b.ReportMetric(float64(own)/float64(least), "x-floor")
	b.ReportMetric(own.Seconds()*1000/float64(b.N), "ms/read")
}

// BenchmarkParse measures what parsing costs an item, against encoding/json,
// which validates the same page.
func BenchmarkParse(b *testing.B) {
	rec := &memory{}
	request, _ := http.NewRequest(http.MethodGet, "https://x.test/v1.0/things?page=3", nil)
	benchGraph(func() string { return "" }).ServeHTTP(rec, request)
	data := rec.Bytes()
	k := keysOf(withChild("/things"))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var own, other time.Duration
	for b.Loop() {
		start := time.Now()
		p, err := parsePage(data, k)
		if err != nil || len(p.entries) != benchPage {
			b.Fatal(err)
		}
		own += time.Since(start)
		start = time.Now()
		if !json.Valid(data) {
			b.Fatal("invalid")
		}
		other += time.Since(start)
	}
	b.ReportMetric(float64(own)/float64(other), "x-json.Valid")
	b.ReportMetric(float64(own.Microseconds())/float64(b.N*benchPage), "µs/item")
}

type memory struct {
	bytes.Buffer
}

func (*memory) Header() http.Header { return http.Header{} }
func (*memory) WriteHeader(int)     {}
