package graph

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

func withChild(path string) *catalog.Type {
	typ := collection(path)
	typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Collection}}
	return typ
}

// thingsAndChildren answers a list of n items that have an empty child each.
func thingsAndChildren(n int) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{"/v1.0/things": ok(things(n)), "/v1.0/things/*": ok(`{"value":[]}`)}
}

func TestChildrenShareBatches(t *testing.T) {
	f := &fakeGraph{one: routes(thingsAndChildren(200))}
	source, _ := serve(t, f)
	got := read(t, source, withChild("/things"))
	if got.err != nil || len(got.ids) != 200 {
		t.Fatal(got.err, len(got.ids))
	}
	if len(f.sizes) > 13 || got.stats.Requests > 14 {
		t.Errorf("200 children took %d batches: %v", len(f.sizes), f.sizes)
	}
	for _, n := range f.sizes {
		if n > batchSize {
			t.Errorf("a batch of %d", n)
		}
	}
}

// First pages of different types, gates and identities: those of one identity and
// version share a batch; no other does.
func TestTypesShareBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGraph{one: ok(things(1))}
		source := offline(t, f)
		session := source.Open()
		defer session.Close()
		first, second := &fakeIdentity{}, &fakeIdentity{issued: 100}
		var group sync.WaitGroup
		for i := range 30 {
			typ := collection(fmt.Sprintf("/t%d", i))
			typ.Gate = fmt.Sprint("g", i%3)
			identity := port.Identity(first)
			if i%10 == 0 {
				typ.Version = "beta"
			}
			if i%10 == 1 {
				identity = second
			}
			group.Go(func() {
				if err := session.Read(t.Context(), typ, identity, func(port.Item) error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if got := fmt.Sprint(len(f.gets), " ", session.Stats().Requests); got != "30 4" {
			t.Errorf("types and requests: %s; batches %v", got, f.sizes)
		}
	})
}

func TestBatchAnswers(t *testing.T) {
	answerAll := func(parts []fakePart) []string {
		out := make([]string, len(parts))
		for i, p := range parts {
			out[i] = partAnswer(p.ID, 200, nil, []byte(`{"value":[]}`))
		}
		return out
	}
	for name, spoil := range map[string]func(w http.ResponseWriter, parts []fakePart){
		"a part is missing": func(w http.ResponseWriter, parts []fakePart) {
			io.WriteString(w, `{"responses":[`+strings.Join(answerAll(parts)[1:], ",")+`]}`)
		},
		"no answers":   func(w http.ResponseWriter, _ []fakePart) { io.WriteString(w, `{"responses":[]}`) },
		"no responses": func(w http.ResponseWriter, _ []fakePart) { io.WriteString(w, `{}`) },
		"null":         func(w http.ResponseWriter, _ []fakePart) { io.WriteString(w, `{"responses":null}`) },
		"empty":        func(http.ResponseWriter, []fakePart) {},
		"html":         func(w http.ResponseWriter, _ []fakePart) { io.WriteString(w, `<html>`) },
		"too large":    func(w http.ResponseWriter, _ []fakePart) { io.WriteString(w, strings.Repeat(" ", 70_000)) },
		"unknown part": func(w http.ResponseWriter, _ []fakePart) {
			io.WriteString(w, `{"responses":[{"id":"99","status":200}]}`)
		},
		"negative part": func(w http.ResponseWriter, _ []fakePart) {
			io.WriteString(w, `{"responses":[{"id":"-1","status":200}]}`)
		},
		"no status": func(w http.ResponseWriter, _ []fakePart) { io.WriteString(w, `{"responses":[{"id":"0"}]}`) },
		"a part twice": func(w http.ResponseWriter, parts []fakePart) {
			a := answerAll(parts)
			io.WriteString(w, `{"responses":[`+strings.Join(append(a, a[0]), ",")+`]}`)
		},
		"cut": func(w http.ResponseWriter, parts []fakePart) {
			all := `{"responses":[` + strings.Join(answerAll(parts), ",")
			io.WriteString(w, all[:len(all)/2])
		},
		"cut on the wire": func(w http.ResponseWriter, parts []fakePart) {
			io.WriteString(w, `{"responses":[`+answerAll(parts)[0])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"connection closed": func(http.ResponseWriter, []fakePart) { panic(http.ErrAbortHandler) },
		"400 as a whole":    func(w http.ResponseWriter, _ []fakePart) { w.WriteHeader(http.StatusBadRequest) },
		"413 as a whole":    func(w http.ResponseWriter, _ []fakePart) { w.WriteHeader(http.StatusRequestEntityTooLarge) },
		"503 as a whole":    func(w http.ResponseWriter, _ []fakePart) { w.WriteHeader(http.StatusServiceUnavailable) },
		"401 as a whole":    func(w http.ResponseWriter, _ []fakePart) { w.WriteHeader(http.StatusUnauthorized) },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeGraph{one: routes(thingsAndChildren(60))}
			var spoiled atomic.Bool
			f.batch = func(w http.ResponseWriter, parts []fakePart) bool {
				if !spoiled.CompareAndSwap(false, true) {
					return false
				}
				spoil(w, parts)
				return true
			}
			source, _ := serve(t, f, small)
			got := read(t, source, withChild("/things"))
			if got.err != nil || len(got.ids) != 60 {
				t.Error(got.err, len(got.ids))
			}
			if !spoiled.Load() {
				t.Error("there was no batch")
			}
		})
		t.Run(name+", always", func(t *testing.T) {
			f := &fakeGraph{one: routes(thingsAndChildren(60))}
			f.batch = func(w http.ResponseWriter, parts []fakePart) bool { spoil(w, parts); return true }
			source, _ := serve(t, f, small)
			got := read(t, source, withChild("/things"))
			switch name {
			case "503 as a whole", "connection closed", "401 as a whole": // speak of every part
				if got.err == nil {
					t.Error("no error")
				}
			default: // alone, every part is answered
				if got.err != nil || len(got.ids) != 60 {
					t.Error(got.err, len(got.ids))
				}
			}
		})
	}
}

// A part that is throttled is asked again, and no other; the rest of its gate
// waits as long.
func TestThrottledPartIsRetriedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := thingsAndChildren(40)
		table["/v1.0/things/i5/c"] = inTurn(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			fail(429, "TooManyRequests", "slow down")(w, r)
		}, ok(`{"value":[{"id":"x"}]}`))
		f := &fakeGraph{one: routes(table)}
		source := offline(t, f)
		start := time.Now()
		got := read(t, source, withChild("/things"))
		if got.err != nil || len(got.ids) != 40 || got.stats.Throttled != 1 {
			t.Fatal(got.err, len(got.ids), got.stats)
		}
		if n := f.count("/v1.0/things/"); n != 41 {
			t.Errorf("%d child requests", n)
		}
		if took := time.Since(start); took < 7*time.Second || took > 8*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestPartsThatWaitInTheQueueGoBackToAClosedGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		var early atomic.Int32
		f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1.0/things" {
				io.WriteString(w, things(100))
				return
			}
			now := time.Now().UnixNano()
			if told.CompareAndSwap(0, now) {
				w.Header().Set("Retry-After", "5")
				fail(429, "x", "x")(w, r)
				return
			}
			if d := time.Duration(now - told.Load()); d > 10*time.Millisecond && d < 5*time.Second {
				early.Add(1)
			}
			io.WriteString(w, `{"value":[]}`)
		}}
		f.batch = func(http.ResponseWriter, []fakePart) bool { <-time.After(20 * time.Millisecond); return false }
		source := offline(t, f, func(c *Config) { c.MaxConnections = 1 })
		got := read(t, source, withChild("/things"))
		if got.err != nil || len(got.ids) != 40*2+20 || early.Load() != 0 {
			t.Error(got.err, len(got.ids), early.Load())
		}
	})
}

func TestConnectionLimit(t *testing.T) {
	var now, most atomic.Int32
	f := &fakeGraph{one: routes(thingsAndChildren(400))}
	synctest.Test(t, func(t *testing.T) {
		f.batch = func(http.ResponseWriter, []fakePart) bool {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-time.After(50 * time.Millisecond)
			now.Add(-1)
			return false
		}
		source := offline(t, f, func(c *Config) { c.MaxConnections = 3 })
		if got := read(t, source, withChild("/things")); got.err != nil || len(got.ids) != 400 {
			t.Fatal(got.err)
		}
	})
	if most.Load() != 3 {
		t.Errorf("%d at a time", most.Load())
	}
}
