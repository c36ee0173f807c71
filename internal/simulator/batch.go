package simulator

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// maxParts is the most requests of a batch.
// https://learn.microsoft.com/graph/json-batching
const maxParts = 20

type batchRequest struct {
	Requests []struct {
		ID     string `json:"id"`
		Method string `json:"method"`
		URL    string `json:"url"`
	} `json:"requests"`
}

// batch answers up to 20 requests together. All of them had the latency of the one
// that carries them: Graph works on the parts at the same time.
func (s *Simulator) batch(w http.ResponseWriter, r *http.Request) {
	token := s.readToken(r.Header.Get("Authorization"))
	if token == nil {
		s.unauthorized().write(w)
		return
	}
	var b batchRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&b); err != nil {
		failed(http.StatusBadRequest, "BadRequest", "The batch is not valid JSON.").write(w)
		return
	}
	if problem := b.problem(); r.Method != http.MethodPost || problem != "" {
		failed(http.StatusBadRequest, "BadRequest", problem).write(w)
		return
	}
	s.countBatch()
	version, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body := append(make([]byte, 0, 2048*len(b.Requests)), `{"responses":[`...)
	// The last comes first: the order of the answers says nothing.
	for i := len(b.Requests) - 1; i >= 0; i-- {
		part := &b.Requests[i]
		a := failed(http.StatusBadRequest, "BadRequest", "The part is not a GET with a relative address.")
		q, ok := newRequest(r.Host, "/"+version+"/"+strings.TrimPrefix(part.URL, "/"))
		if ok && part.Method == http.MethodGet {
			q.token = token
			a = s.answer(q)
		}
		body = appendPart(body, part.ID, a)
		if a.cut { // and with it the rest of the batch
			answer{status: http.StatusOK, body: body}.write(w)
			return
		}
		if i > 0 {
			body = append(body, ',')
		}
	}
	answer{status: http.StatusOK, body: append(body, `]}`...)}.write(w)
}

// problem says why Graph would not take a batch.
func (b *batchRequest) problem() string {
	if len(b.Requests) == 0 || len(b.Requests) > maxParts {
		return "A batch has 1 to 20 requests."
	}
	seen := make(map[string]bool, len(b.Requests))
	for i := range b.Requests {
		id := b.Requests[i].ID
		if id == "" || seen[id] {
			return "Every request of a batch has an id of its own."
		}
		seen[id] = true
	}
	return ""
}

func appendPart(body []byte, id string, a answer) []byte {
	body = appendString(append(body, `{"id":`...), id)
	body = append(body, `,"status":`...)
	body = append(body, byte('0'+a.status/100), byte('0'+a.status/10%10), byte('0'+a.status%10))
	body = append(body, `,"headers":{"Content-Type":"application/json"`...)
	for _, h := range a.headers {
		body = appendString(append(body, ','), h[0])
		body = appendString(append(body, ':'), h[1])
	}
	body = append(append(body, `},"body":`...), a.body...)
	if a.cut {
		return body
	}
	return append(body, '}')
}
