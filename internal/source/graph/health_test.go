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

// A type whose last 20 requests failed is given up at once, for this sync only, and no
// other type with it.
func TestSickTypeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGraph{one: routes(map[string]http.HandlerFunc{
			"/v1.0/things": ok(things(5000)), "/v1.0/things/*": fail(500, "x", "x"), "/v1.0/well": ok(things(1)),
		})}
		source := offline(t, f)
		session := source.Open()
		start := time.Now()
		err := session.Read(t.Context(), withChild("/things"), &fakeIdentity{}, func(port.Item) error { return nil })
		if !isReason(err, reasonUnavailable) || time.Since(start) > 30*time.Second {
			t.Error(err, time.Since(start))
		}
		synctest.Wait() // a batch that was on its way when the reading ended
		if n := f.count("/v1.0/things/"); n > 1000 {
			t.Errorf("%d requests to a sick workload", n)
		}
		before := len(f.gets)
		err = session.Read(t.Context(), collection("/things"), &fakeIdentity{}, func(port.Item) error { return nil })
		if !isReason(err, reasonUnavailable) || len(f.gets) != before {
			t.Error(err, len(f.gets)-before)
		}
		well := collection("/well")
		well.ID = "test/well"
		if err := session.Read(t.Context(), well, &fakeIdentity{}, func(port.Item) error { return nil }); err != nil {
			t.Error(err)
		}
		session.Close()
		if got := read(t, source, collection("/things")); got.err != nil {
			t.Error("the next sync:", got.err)
		}
	})
}

// One good answer in between keeps a type.
func TestShakyTypeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1.0/things" && n.Add(1)%5 != 0 {
				fail(500, "x", "x")(w, r)
				return
			}
			io.WriteString(w, things(200))
		}}
		source := offline(t, f)
		session := source.Open().(*session)
		defer session.Close()
		err := session.Read(t.Context(), withChild("/things"), &fakeIdentity{}, func(port.Item) error { return nil })
		if !isReason(err, reasonUnavailable) || session.health("test/things").givenUp.Load() || session.workload("test").givenUp.Load() {
			t.Error(err)
		}
	})
}

// A workload of which several types fail, and nothing answers, is given up: the types
// that follow are not asked. One good answer in between keeps it.
func TestSickWorkloadIsGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		types int
		well  int  // the round before which a type answers
		asked bool // the type that follows
	}{
		"all of it":              {5, -1, false},
		"few types":              {3, -1, true},
		"an answer in between":   {5, 2, true},
		"an answer at the start": {5, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeGraph{one: routes(map[string]http.HandlerFunc{
					"/v1.0/well": ok(things(1)), "/v1.0/last": ok(things(1)), "/v1.0/sick*": fail(http.StatusBadGateway, "x", "x"),
				})}
				session := offline(t, f).Open()
				defer session.Close()
				identity := &fakeIdentity{}
				get := func(id, path string) error {
					typ := collection(path)
					typ.ID, typ.Gate = "test/"+id, "shared"
					return session.Read(t.Context(), typ, identity, func(port.Item) error { return nil })
				}
				for round := range 4 {
					if round == test.well {
						if err := get("well", "/well"); err != nil {
							t.Fatal(err)
						}
					}
					var group sync.WaitGroup
					for i := range test.types {
						for j := range 1 + 4/test.types {
							group.Go(func() { _ = get(fmt.Sprint("sick", i), fmt.Sprint("/sick", i, "-", round, "-", j)) })
						}
					}
					group.Wait()
				}
				err := get("last", "/last")
				if asked := f.count("/v1.0/last") > 0; asked != test.asked || asked != (err == nil) {
					t.Error(asked, err)
				}
			})
		})
	}
}

// Some broken teams, each asked four times, are no reason to give up: neither the other
// teams nor the other types of their gate.
func TestBrokenItemsAreNoSickWorkload(t *testing.T) {
	for _, broken := range []int{4, 8, 40} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
				var i int
				switch n, _ := fmt.Sscanf(r.URL.Path, "/v1.0/groups/i%d/team", &i); {
				case n == 1 && i%5 == 0 && i < 5*broken:
					fail(http.StatusBadGateway, "BadGateway", "x")(w, r)
				case n == 1:
					fmt.Fprintf(w, `{"id":"i%d","displayName":"x"}`, i)
				default:
					io.WriteString(w, things(500))
				}
			}}
			session := offline(t, f).Open()
			defer session.Close()
			identity := &fakeIdentity{}
			teams := &catalog.Type{
				ID: "teams/teams", Version: "v1.0", Path: "/groups/{id}/team", Kind: catalog.Singleton,
				Gate: "directory", Each: &catalog.Each{Path: "/groups"},
			}
			n := 0
			err := session.Read(t.Context(), teams, identity, func(port.Item) error { n++; return nil })
			if !isReason(err, reasonUnavailable) || strings.Contains(err.Error(), "given up") || n != 500-broken {
				t.Errorf("%d broken: %d teams, %v", broken, n, err)
			}
			other := collection("/applications")
			other.Gate = "directory"
			if err := session.Read(t.Context(), other, identity, func(port.Item) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
}
