package simulator_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"understudy.internal/internal/simulator"
)

const groupsPath = "/v1.0/groups"

// rounds follows delta queries.
type rounds struct {
	*tenant
	token string
}

// follow reads all pages of a round: the ids that it tells of, those removed with a
// minus before them, sorted and each once; how many objects it told; the next link.
func (r *rounds) follow(link string) (ids []string, told int, next string) {
	r.t.Helper()
	for range 100 {
		a := r.do(http.MethodGet, link, r.token, "")
		if a.status != http.StatusOK {
			r.t.Fatalf("%d %s", a.status, a.body)
		}
		list, _ := a.json["value"].([]any)
		for _, element := range list {
			object, _ := element.(map[string]any)
			id, _ := object["id"].(string)
			if object["@removed"] != nil {
				id = "-" + id
			}
			ids = append(ids, id)
			told++
		}
		if next, _ = a.json["@odata.deltaLink"].(string); next != "" {
			slices.Sort(ids)
			return slices.Compact(ids), told, next
		}
		link, _ = a.json["@odata.nextLink"].(string)
	}
	r.t.Fatal("the round is endless")
	return nil, 0, ""
}

func (r *rounds) ids(path string) []string {
	r.t.Helper()
	var ids []string
	list, _ := r.get(path+"?$top=999", r.token).json["value"].([]any)
	for _, element := range list {
		object, _ := element.(map[string]any)
		id, _ := object["id"].(string)
		ids = append(ids, id)
	}
	return ids
}

func TestDeltaTellsWhatChanged(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Seed: 3, Items: 12, PageSize: 5})
	r := &rounds{tenant: x, token: x.token(bySecret)}
	ids := r.ids(groupsPath)
	all, _, link := r.follow(x.URL() + groupsPath + "/delta")
	if want := slices.Sorted(slices.Values(ids)); !slices.Equal(all, want) {
		t.Fatalf("the first round tells of %v, want %v", all, want)
	}
	owners := x.URL() + groupsPath + "/delta?$select=owners,members&$deltatoken=latest"
	nothing, _, ownersLink := r.follow(owners)
	if len(nothing) > 0 {
		t.Errorf("latest tells of %v", nothing)
	}
	for _, err := range []error{
		x.ChangeItem(groupsPath, 1), x.RemoveItem(groupsPath, 4), x.SetCount(groupsPath, 13),
		x.SetCount(groupsPath+"/"+ids[7]+"/owners", 9), x.SetCount(groupsPath+"/"+ids[8]+"/members", 9),
		x.SetCount(groupsPath+"/"+ids[9]+"/settings", 9),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	added := r.ids(groupsPath)[11]
	check := func(what, link string, want ...string) string {
		t.Helper()
		got, told, next := r.follow(link)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s tells of %v, want %v", what, got, want)
		}
		if len(want) > 0 && told != len(want)+1 {
			t.Errorf("%s tells %d objects, want one of them twice", what, told)
		}
		return next
	}
	next := check("the query without select", link, ids[1], "-"+ids[4], added, ids[8])
	check("the query with select", ownersLink, "-"+ids[4], added, ids[7], ids[8])
	check("the same link again", link, ids[1], "-"+ids[4], added, ids[8])
	check("the next link", next)
}

func TestDeltaExpires(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Seed: 3})
	r := &rounds{tenant: x, token: x.token(bySecret)}
	_, _, link := r.follow(x.URL() + groupsPath + "/delta?$deltatoken=latest")
	gone := func(why string) {
		t.Helper()
		a := x.do(http.MethodGet, link, r.token, "")
		if a.status != http.StatusGone || x.code(a) != "syncStateNotFound" || !strings.HasSuffix(a.header.Get("Location"), "delta?$deltatoken=") {
			t.Errorf("%s: %d %s, Location %q", why, a.status, a.body, a.header.Get("Location"))
		}
	}
	if err := x.SetScenarios(simulator.Scenario{Name: "delta-expired"}); err != nil {
		t.Fatal(err)
	}
	gone("by scenario")
	r.follow(x.URL() + groupsPath + "/delta") // a new round can begin
	if err := x.SetScenarios(); err != nil {
		t.Fatal(err)
	}
	r.follow(link)
	x.ExpireDeltas()
	gone("by time")
	if a := x.get(groupsPath+"/delta?$deltatoken=nonsense", r.token); a.status != http.StatusBadRequest {
		t.Errorf("nonsense: %d", a.status)
	}
	for _, path := range []string{"/v1.0/organization/delta", "/v1.0/domains/delta"} {
		if a := x.get(path, r.token); a.status == http.StatusOK {
			t.Errorf("%s exists: %s", path, fmt.Sprintf("%.80s", a.body))
		}
	}
}
