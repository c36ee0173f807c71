package graph

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

const (
	modeFull  = understudyv1.ReadMode_READ_MODE_FULL
	modeDelta = understudyv1.ReadMode_READ_MODE_DELTA
)

// trackedThings is a type with a delta function that reports members, not extras.
func trackedThings() *catalog.Type {
	t := collection("/things")
	t.Children = []catalog.Child{
		{Name: "extras", Path: "extras", Kind: catalog.Collection},
		{Name: "members", Path: "members", Kind: catalog.Collection},
	}
	t.Delta = &catalog.Delta{Covers: []string{"members"}}
	return t
}

// trackedGraph is a tenant with things and a delta function for them.
type trackedGraph struct {
	*fakeGraph
	source *Source
	server string

	mu sync.Mutex
	// things are the ids that the list has and that can be read; extras their
	// uncovered children.
	ids    []string
	extras map[string]string
	// answers override what is at a path.
	answers map[string]http.HandlerFunc
	// pages are what delta links answer, in turn, the last for good: the `value`, and
	// what is in place of the delta link, if not empty.
	pages []deltaAnswer
	links int
}

type deltaAnswer struct{ value, ending string }

func newTrackedGraph(t *testing.T, ids ...string) *trackedGraph {
	t.Helper()
	g := &trackedGraph{ids: ids, extras: map[string]string{}, answers: map[string]http.HandlerFunc{}}
	g.fakeGraph = &fakeGraph{one: g.serve}
	source, server := serve(t, g)
	g.source, g.server = source, server.URL
	return g
}

func (g *trackedGraph) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1.0/things")
	if answer := g.answers[path]; answer != nil {
		answer(w, r)
		return
	}
	id, child, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case path == "":
		var list []string
		for _, id := range g.ids {
			list = append(list, fmt.Sprintf(`{"id":%q}`, id))
		}
		fmt.Fprintf(w, `{"value":[%s]}`, strings.Join(list, ","))
	case path == "/delta":
		g.delta(w, r)
	case !slices.Contains(g.ids, id):
		fail(http.StatusNotFound, "Request_ResourceNotFound", "gone")(w, r)
	case child == "":
		fmt.Fprintf(w, `{"@odata.context":"x","id":%q}`, id)
	case child == "extras":
		fmt.Fprintf(w, `{"value":[%s]}`, g.extras[id])
	default:
		io.WriteString(w, `{"value":[]}`)
	}
}

// delta answers a link that was issued before, or issues the first one.
func (g *trackedGraph) delta(w http.ResponseWriter, r *http.Request) {
	g.links++
	link := fmt.Sprintf(`"@odata.deltaLink":"%s/v1.0/things/delta?$deltatoken=%d"`, g.server, g.links)
	if r.URL.Query().Get("$deltatoken") == "latest" {
		fmt.Fprintf(w, `{"value":[],%s}`, link)
		return
	}
	var page deltaAnswer
	if len(g.pages) > 0 {
		page = g.pages[0]
		g.pages = g.pages[min(1, len(g.pages)-1):]
	}
	if page.ending != "" {
		link = strings.ReplaceAll(page.ending, "SERVER", g.server)
	}
	fmt.Fprintf(w, `{"value":[%s],%s}`, page.value, link)
}

// deltaResult is what one reading brought.
type deltaResult struct {
	port.Increment
	ids []string
	err error
}

func (g *trackedGraph) readSince(t *testing.T, configurationType *catalog.Type, since port.Cursor) deltaResult {
	t.Helper()
	session := g.source.Open()
	defer session.Close()
	var r deltaResult
	r.Increment, r.err = session.ReadSince(t.Context(), configurationType, &fakeIdentity{}, since, func(i port.Item) error {
		r.ids = append(r.ids, i.ID)
		return nil
	})
	slices.Sort(r.ids)
	return r
}

// begun reads everything once and returns the cursor.
func (g *trackedGraph) begun(t *testing.T) port.Cursor {
	t.Helper()
	r := g.readSince(t, trackedThings(), nil)
	if r.err != nil || r.Mode != modeFull || len(r.Cursor) == 0 || !slices.Equal(r.ids, g.ids) {
		t.Fatalf("the first reading: %+v", r)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gets = nil
	return r.Cursor
}

func (r deltaResult) is(t *testing.T, mode understudyv1.ReadMode, ids, removed []string) {
	t.Helper()
	if r.err != nil || r.Mode != mode || !slices.Equal(r.ids, ids) || !slices.Equal(r.Removed, removed) {
		t.Errorf("%s: %v, removed %v, %v; want %s: %v, removed %v", r.Mode, r.ids, r.Removed, r.err, mode, ids, removed)
	}
}

// tokens are the delta tokens that were asked for, in order.
func (g *trackedGraph) tokens() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var tokens []string
	for _, path := range g.gets {
		if _, token, ok := strings.Cut(path, "deltatoken="); ok {
			tokens = append(tokens, token)
		}
	}
	g.gets = nil
	return tokens
}

// listed says whether the list was asked for since tokens was asked last.
func (g *trackedGraph) listed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.gets, "/v1.0/things")
}

// A reading follows the links of the last two generations, and asks for what changed
// only.
func TestDeltaFollowsTwoGenerations(t *testing.T) {
	g := newTrackedGraph(t, "a", "b")
	cursor := g.begun(t) // links 1 and 2
	list := false
	for _, want := range [][]string{{"1", "2"}, {"1", "2", "3", "4"}, {"3", "4", "7", "8"}} {
		r := g.readSince(t, trackedThings(), cursor)
		r.is(t, modeDelta, nil, nil)
		list = list || g.listed()
		if diff := cmp.Diff(want, g.tokens()); diff != "" {
			t.Error(diff)
		}
		cursor = r.Cursor
	}
	minimal := slices.ContainsFunc(g.seen, func(h http.Header) bool { return strings.Contains(h.Get("Prefer"), "return=minimal") })
	if !minimal {
		t.Error("no delta query asks for what changed only")
	}
	if list {
		t.Error("the list was read again")
	}
}

// A mention in any order and number is one; only two witnesses make a removal.
func TestDeltaRemovals(t *testing.T) {
	many := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}
	without := func(ids ...string) []string {
		return slices.DeleteFunc(slices.Clone(many), func(id string) bool { return slices.Contains(ids, id) })
	}
	gone := func(id string) string { return fmt.Sprintf(`{"id":%q,"@removed":{"reason":"changed"}}`, id) }
	for name, c := range map[string]struct {
		told    string
		left    []string
		answers map[string]http.HandlerFunc
		mode    understudyv1.ReadMode
		ids     []string
		removed []string
	}{
		"removed":                {gone("b"), without("b"), nil, modeDelta, nil, []string{"b"}},
		"for good":               {`{"@removed":{"reason":"deleted"},"id":"b"}`, without("b"), nil, modeDelta, nil, []string{"b"}},
		"told twice, and before": {gone("b") + `,{"id":"b","x":1},` + gone("b"), without("b"), nil, modeDelta, nil, []string{"b"}},
		"restored meanwhile":     {`{"id":"b"},` + gone("b"), many, nil, modeDelta, []string{"b"}, nil},
		"never known":            {gone("z"), many, nil, modeDelta, nil, []string{"z"}},
		"of a member, not of it": {`{"id":"b","members@delta":[{"id":"u","@removed":{"reason":"deleted"}}]}`, many, nil, modeDelta, []string{"b"}, nil},
		"new":                    {`{"id":"m"}`, append(without(), "m"), nil, modeDelta, []string{"m"}, nil},
		"changed, not there":     {`{"id":"b"}`, without("b"), nil, modeFull, without("b"), nil},
		"a child is not there": {
			gone("b"), many, map[string]http.HandlerFunc{"/b/members": inTurn(fail(404, "X", "x"), ok(`{"value":[]}`))}, modeFull, many, nil,
		},
		"a fifth": {gone("a") + "," + gone("b") + "," + gone("c"), without("a", "b", "c"), nil, modeDelta, nil, []string{"a", "b", "c"}},
		"more than a fifth and five": {
			strings.Join([]string{gone("a"), gone("b"), gone("c"), gone("d"), gone("e")}, ","), without("a", "b", "c", "d", "e"), nil,
			modeFull, without("a", "b", "c", "d", "e"), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTrackedGraph(t, many...)
			cursor := g.begun(t)
			g.ids, g.pages = c.left, []deltaAnswer{{value: c.told}}
			maps.Copy(g.answers, c.answers)
			r := g.readSince(t, trackedThings(), cursor)
			r.is(t, c.mode, c.ids, c.removed)
			if len(r.Cursor) == 0 {
				t.Error("no cursor")
			}
		})
	}
}

func TestDeltaRemovalOfAll(t *testing.T) {
	g := newTrackedGraph(t, "a")
	cursor := g.begun(t)
	g.ids, g.pages = nil, []deltaAnswer{{value: `{"id":"a","@removed":{}}`}}
	g.readSince(t, trackedThings(), cursor).is(t, modeFull, nil, nil)
}

// Children that no delta query reports are compared for every item.
func TestDeltaReadsUncoveredChildren(t *testing.T) {
	g := newTrackedGraph(t, "a", "b", "c")
	g.extras["b"] = `{"id":"1","@odata.etag":"e1"}`
	cursor := g.begun(t)
	g.extras["b"] = `{"@odata.etag":"e2","id":"1"}`
	r := g.readSince(t, trackedThings(), cursor)
	r.is(t, modeDelta, nil, nil)
	if n := g.count("/v1.0/things/b/members"); n != 0 {
		t.Errorf("members, which are covered, were read %d times", n)
	}
	g.extras["b"] += `,{"id":"2"}`
	r = g.readSince(t, trackedThings(), r.Cursor)
	r.is(t, modeDelta, []string{"b"}, nil)
	g.readSince(t, trackedThings(), r.Cursor).is(t, modeDelta, nil, nil)
}

// An item that goes while the children are read is gone when the delta queries say
// so on being asked again; else nothing is certain.
func TestDeltaOfAnItemThatGoesMeanwhile(t *testing.T) {
	g := newTrackedGraph(t, "a", "b", "c")
	cursor := g.begun(t)
	g.ids = []string{"a", "c"}
	g.pages = []deltaAnswer{{}, {}, {value: `{"id":"b","@removed":{"reason":"deleted"}}`}}
	r := g.readSince(t, trackedThings(), cursor)
	r.is(t, modeDelta, nil, []string{"b"})

	g.ids, g.pages = []string{"a"}, nil
	g.readSince(t, trackedThings(), r.Cursor).is(t, modeFull, []string{"a"}, nil)
}

// What is wrong with a delta query makes the reading a full one; nothing of it
// reaches the sink twice.
func TestDeltaRestarts(t *testing.T) {
	for name, spoil := range map[string]func(g *trackedGraph){
		"410":          func(g *trackedGraph) { g.answers["/delta"] = fail(http.StatusGone, "syncStateNotFound", "x") },
		"400":          func(g *trackedGraph) { g.answers["/delta"] = fail(http.StatusBadRequest, "resyncRequired", "x") },
		"302":          func(g *trackedGraph) { g.answers["/delta"] = fail(http.StatusFound, "", "") },
		"not JSON":     func(g *trackedGraph) { g.answers["/delta"] = ok(`{"value":[`) },
		"not a list":   func(g *trackedGraph) { g.answers["/delta"] = ok(`{"value":1}`) },
		"no id":        func(g *trackedGraph) { g.pages = []deltaAnswer{{value: `{"@removed":{}}`}} },
		"an unsafe id": func(g *trackedGraph) { g.pages = []deltaAnswer{{value: `{"id":".."}`}} },
		"no link":      func(g *trackedGraph) { g.pages = []deltaAnswer{{ending: `"a":1`}} },
		"both links": func(g *trackedGraph) {
			g.pages = []deltaAnswer{{ending: `"@odata.nextLink":"a","@odata.deltaLink":"b"`}}
		},
		"a foreign page": func(g *trackedGraph) {
			g.pages = []deltaAnswer{{ending: `"@odata.nextLink":"https://example.invalid/v1.0/x"`}}
		},
		"a foreign link": func(g *trackedGraph) {
			g.pages = []deltaAnswer{{ending: `"@odata.deltaLink":"https://example.invalid/v1.0/x"`}}
		},
		"an endless round": func(g *trackedGraph) {
			g.pages = []deltaAnswer{{ending: `"@odata.nextLink":"SERVER/v1.0/things/delta?$skiptoken=1"`}}
		},
		"another item": func(g *trackedGraph) {
			g.pages, g.answers["/a"] = []deltaAnswer{{value: `{"id":"a"}`}}, ok(`{"id":"b"}`)
		},
		"an unusable item": func(g *trackedGraph) {
			g.pages, g.answers["/a"] = []deltaAnswer{{value: `{"id":"a"}`}}, ok(`[]`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTrackedGraph(t, "a", "b")
			cursor := g.begun(t)
			spoil(g)
			g.readSince(t, trackedThings(), cursor).is(t, modeFull, []string{"a", "b"}, nil)
		})
	}
}

// A cursor that was made for something else is not used, and no delta query made.
func TestDeltaCursorsOfSomethingElse(t *testing.T) {
	g := newTrackedGraph(t, "a", "b")
	cursor := g.begun(t)
	other := trackedThings()
	other.Select = "id,displayName"
	elsewhere, _ := serve(t, g, func(c *Config) { c.DirectoryID = "33333333-3333-4333-8333-333333333333" })
	for name, c := range map[string]struct {
		source *Source
		t      *catalog.Type
		cursor port.Cursor
	}{
		"another query":  {g.source, other, cursor},
		"another tenant": {elsewhere, trackedThings(), cursor},
		"nonsense":       {g.source, trackedThings(), port.Cursor("nonsense")},
		"another form":   {g.source, trackedThings(), port.Cursor(strings.Replace(string(cursor), `"form":1`, `"form":0`, 1))},
		"fewer links":    {g.source, trackedThings(), port.Cursor(strings.Replace(string(cursor), `"links":[[`, `"links":[["x"],[`, 1))},
	} {
		t.Run(name, func(t *testing.T) {
			source := g.source
			defer func() { g.source = source }()
			g.source = c.source
			g.tokens()
			g.readSince(t, c.t, c.cursor).is(t, modeFull, []string{"a", "b"}, nil)
			for _, token := range g.tokens() {
				if token != "latest" {
					t.Errorf("the link %s was followed", token)
				}
			}
		})
	}
}

// Without a delta function, with a filter, or where the tenant refuses the
// function, everything is read and nothing kept.
func TestDeltaNotPossible(t *testing.T) {
	g := newTrackedGraph(t, "a")
	plain, filtered := trackedThings(), trackedThings()
	plain.Delta, filtered.Filter = nil, "a eq 1"
	for _, configurationType := range []*catalog.Type{plain, filtered} {
		r := g.readSince(t, configurationType, nil)
		r.is(t, modeFull, []string{"a"}, nil)
		if r.Cursor != nil || len(g.tokens()) > 0 {
			t.Error("a delta query was made")
		}
	}
	g.answers["/delta"] = fail(http.StatusForbidden, "Authorization_RequestDenied", "x")
	r := g.readSince(t, trackedThings(), nil)
	r.is(t, modeFull, []string{"a"}, nil)
	if r.Cursor != nil {
		t.Error("a cursor without a link")
	}
}

// What ends a reading for good ends one by delta, too, and then nothing was given.
func TestDeltaFails(t *testing.T) {
	throttled := understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED
	g := newTrackedGraph(t, "a", "b")
	cursor := g.begun(t)
	g.pages = []deltaAnswer{{value: `{"id":"a"},{"id":"b"}`}}
	g.answers["/b"] = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "601")
		fail(http.StatusTooManyRequests, "TooManyRequests", "x")(w, r)
	}
	r := g.readSince(t, trackedThings(), cursor)
	var readError *port.ReadError
	if !errors.As(r.err, &readError) || readError.Reason != throttled || len(r.ids) > 0 || r.Mode != modeDelta || r.Cursor != nil {
		t.Errorf("%+v", r)
	}
	if g.listed() {
		t.Error("the list was asked for all the same")
	}
}

func TestDeltaGuards(t *testing.T) {
	for _, c := range []struct {
		items, changed, removed int
		restarts                bool
	}{
		{100, 0, 4, false},
		{20, 0, 4, false},
		{25, 0, 5, false},
		{24, 0, 5, true},
		{3, 0, 3, true},
		{10_000, 2_500, 0, false},
		{10_000, 2_501, 0, true},
		{10, 1_000, 0, false},
		{10, 1_001, 0, true},
		{0, 0, 0, false},
	} {
		d := &deltaReading{state: cursorState{Items: map[string]string{}}, mentioned: map[string]bool{"unknown": true}}
		for i := range c.items {
			d.state.Items[fmt.Sprint(i)] = ""
		}
		for i := range c.removed {
			d.mentioned[fmt.Sprint(i)] = true
		}
		for i := range c.changed {
			d.mentioned[fmt.Sprint("new", i)] = false
		}
		if err := d.check(); (err != nil) != c.restarts {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestTrailFingerprint(t *testing.T) {
	configurationType := trackedThings()
	configurationType.Arrays = []catalog.ArrayRule{{Path: "extras"}, {Path: "extras/*/values"}}
	trail := newTrail(configurationType)
	print := func(extras string) string {
		return trail.fingerprint([]member{{name: "extras", raw: []byte(extras)}, {name: "members", raw: []byte(extras)}})
	}
	first := print(`[{"id":"a","values":[1,2],"order":[1,2],"big":12345678901234567890},{"id":"b"}]`)
	same := []string{
		`[{"id":"b"},{"id":"a","values":[1,2],"order":[1,2],"big":12345678901234567890}]`,
		`[ {"values":[2, 1],"id":"a","order":[1,2],"big":12345678901234567890,"@odata.etag":"x"},{"lastModifiedDateTime":"x","id":"b"} ]`,
	}
	other := []string{
		`[]`, `[{"id":"a","values":[1,2],"order":[2,1],"big":12345678901234567890},{"id":"b"}]`,
		`[{"id":"a","values":[1,2],"order":[1,2],"big":12345678901234567891},{"id":"b"}]`,
		`[{"id":"a","values":[1,2],"order":[1,2],"big":12345678901234567890},{"id":"b"},{"id":"b"}]`,
	}
	for _, extras := range same {
		if print(extras) != first {
			t.Errorf("%s counts as another", extras)
		}
	}
	for _, extras := range other {
		if print(extras) == first {
			t.Errorf("%s counts as the same", extras)
		}
	}
	if trail.fingerprint([]member{{name: "members", raw: []byte("[1]")}}) != trail.fingerprint(nil) {
		t.Error("covered children count")
	}
	trail = newTrail(&catalog.Type{Delta: &catalog.Delta{}})
	if trail.fingerprint(nil) != "" {
		t.Error("a fingerprint of nothing")
	}
}
