package simulator

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// deltaFunction is the kind of a path that tells what changed in the collection
// above it. https://learn.microsoft.com/graph/delta-query-overview
const deltaFunction = item + 1

// deltaRelations are the collections with a delta function, and the relations that
// it tells of when a query selects them. The first of them it always tells of.
var deltaRelations = map[string][]string{
	"/applications":                  nil,
	"/directory/administrativeunits": {"members"},
	"/directoryroles":                {"members"},
	"/groups":                        {"members", "owners"},
	"/oauth2permissiongrants":        nil,
	"/serviceprincipals":             nil,
}

// addDeltas gives the collections their delta functions.
func (n *node) addDeltas() {
	for pattern := range deltaRelations {
		if collection := n.at(pattern); collection != nil {
			function := collection.child("delta")
			function.kind, function.documented = deltaFunction, true
		}
	}
}

// snapshot is the state of the items at a time. It is not changed.
type snapshot struct {
	counts  map[uint64]int
	removed map[itemKey]bool
	changed map[itemKey]int
}

func (a *snapshot) equal(b *snapshot) bool {
	return maps.Equal(a.counts, b.counts) && maps.Equal(a.removed, b.removed) && maps.Equal(a.changed, b.changed)
}

// deltas are the states that delta tokens stand for.
type deltas struct {
	mu        sync.Mutex
	snapshots []*snapshot
}

// now returns the number of the present state.
func (s *Simulator) now() int {
	s.data.RLock()
	state := &snapshot{maps.Clone(s.data.counts), maps.Clone(s.data.removed), maps.Clone(s.data.changed)}
	s.data.RUnlock()
	s.deltas.mu.Lock()
	defer s.deltas.mu.Unlock()
	all := s.deltas.snapshots
	if len(all) == 0 || all[len(all)-1] == nil || !all[len(all)-1].equal(state) {
		s.deltas.snapshots = append(all, state)
	}
	return len(s.deltas.snapshots) - 1
}

// at returns a state by its number, or nil.
func (d *deltas) at(number int) *snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	if number < 0 || number >= len(d.snapshots) {
		return nil
	}
	return d.snapshots[number]
}

// ExpireDeltas makes every delta link a stale one, as Graph does after seven days.
func (s *Simulator) ExpireDeltas() {
	s.deltas.mu.Lock()
	defer s.deltas.mu.Unlock()
	for i := range s.deltas.snapshots {
		s.deltas.snapshots[i] = nil
	}
}

// deltaToken is what is in the token of a link: from which state to which (-1: to
// the present one), how many objects were told already, and what is selected.
type deltaToken struct {
	From   int    `json:"f"`
	To     int    `json:"t"`
	Offset int    `json:"o"`
	Select string `json:"s"`
	// Initial says that it began without a link: everything is told.
	Initial bool `json:"i"`
}

func (t deltaToken) encode() string {
	text, err := json.Marshal(t)
	if err != nil { // of numbers and a string: never
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeDeltaToken(text string) (deltaToken, bool) {
	var t deltaToken
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return t, err == nil && strictly(raw, &t) == nil && t.Offset >= 0
}

// delta answers one page of a delta query.
func (s *Simulator) delta(q *request, query url.Values, v *view, f fault) answer {
	collection, m := s.resolve(s.trees[q.version], q.segments[:len(q.segments)-1])
	if m != nil {
		return failed(http.StatusNotFound, "Request_ResourceNotFound", "The resource does not exist.")
	}
	token := deltaToken{To: -1, Select: query.Get("$select"), Initial: true}
	text, follows := query.Get("$skiptoken"), false
	if given := query.Get("$deltatoken"); given != "" && given != "latest" {
		text, follows = given, true
	}
	if text != "" {
		var ok bool
		if token, ok = decodeDeltaToken(text); !ok {
			return failed(http.StatusBadRequest, "BadRequest", "The state token is not valid.")
		}
	}
	if token.To < 0 {
		token.To = s.now()
	}
	if query.Get("$deltatoken") == "latest" {
		token.From, token.Initial = token.To, false
	}
	from, to := &snapshot{}, s.deltas.at(token.To)
	if !token.Initial {
		from = s.deltas.at(token.From)
	}
	if from == nil || to == nil || (f.deltaExpired && follows) {
		return goneDelta(q)
	}
	return s.deltaPage(q, token, s.told(collection, token, from, to), v)
}

// goneDelta is Graph's request to begin anew.
func goneDelta(q *request) answer {
	a := failed(http.StatusGone, "syncStateNotFound", "The sync state generation is not found; continue with a full synchronization.")
	a.headers = append(a.headers, [2]string{"Location", "https://" + q.host + q.path + "?$deltatoken="})
	return a
}

// told is one object that a delta query tells of.
type told struct {
	place   place
	number  int
	removed bool
	// members says that its members changed, too.
	members bool
	// revision is that of the content.
	revision int
}

// told returns what changed between two states. The order means nothing, and an
// object may be told of twice: it is not the same in every round.
func (s *Simulator) told(p place, token deltaToken, from, to *snapshot) []told {
	if !token.Initial && from == to {
		return nil
	}
	relations, properties := tracked(p, token.Select)
	touched := differing(from, to)
	was, is := s.countIn(from, p, token.Initial), s.countIn(to, p, false)
	var list []told
	for i := range max(was, is) {
		key := itemKey{p.hash, i}
		before, now := i < was && !from.removed[key], i < is && !to.removed[key]
		entry := told{place: p, number: i, removed: before && !now, revision: to.changed[key]}
		for _, relation := range relations {
			entry.members = entry.members || touched[extend(itemSeed(p.hash, i), relation)]
		}
		different := properties && from.changed[key] != to.changed[key]
		if entry.removed || (now && (!before || different || entry.members)) {
			list = append(list, entry)
		}
	}
	if token.To%2 == 1 {
		for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
			list[i], list[j] = list[j], list[i]
		}
	}
	if len(list) > 0 && !token.Initial {
		list = append(list, list[0])
	}
	return list
}

// countIn returns how many items a collection had in a state.
func (s *Simulator) countIn(state *snapshot, p place, none bool) int {
	if none {
		return 0
	}
	if n, ok := state.counts[p.hash]; ok {
		return n
	}
	return s.config.Items
}

// tracked returns what a query tells of: which relations, and whether properties.
func tracked(p place, selected string) (relations []string, properties bool) {
	known := deltaRelations[strings.ToLower(p.node.pattern)]
	if selected == "" {
		return known[:min(len(known), 1)], true
	}
	for name := range strings.SplitSeq(selected, ",") {
		if contains(known, name) {
			relations = append(relations, name)
		} else {
			properties = true
		}
	}
	return relations, properties
}

// differing returns the collections that differ between two states.
func differing(from, to *snapshot) map[uint64]bool {
	touched := map[uint64]bool{}
	for _, pair := range [][2]*snapshot{{from, to}, {to, from}} {
		a, b := pair[0], pair[1]
		for hash, n := range a.counts {
			if other, ok := b.counts[hash]; !ok || other != n {
				touched[hash] = true
			}
		}
		for key := range a.removed {
			if !b.removed[key] {
				touched[key.collection] = true
			}
		}
		for key, n := range a.changed {
			if b.changed[key] != n {
				touched[key.collection] = true
			}
		}
	}
	return touched
}

// deltaPage writes one page.
func (s *Simulator) deltaPage(q *request, token deltaToken, list []told, v *view) answer {
	start := min(token.Offset, len(list))
	end := min(start+s.config.PageSize, len(list))
	body := []byte(`{"@odata.context":"https://` + q.host + `/` + q.version + `/$metadata#simulated","value":[`)
	for i, entry := range list[start:end] {
		if i > 0 {
			body = append(body, ',')
		}
		body = s.appendTold(body, entry, v)
	}
	name, option := "@odata.nextLink", "$skiptoken="
	token.Offset = end
	if end == len(list) {
		name, option = "@odata.deltaLink", "$deltatoken="
		token = deltaToken{From: token.To, To: -1, Select: token.Select}
	}
	body = append(body, `],"`+name+`":`...)
	body = appendString(body, "https://"+q.host+q.path+"?"+option+token.encode())
	return answer{status: http.StatusOK, body: append(body, '}')}
}

func (s *Simulator) appendTold(body []byte, entry told, v *view) []byte {
	if entry.removed {
		body = s.appendItemID(append(body, `{"id":`...), entry.place, entry.number)
		return append(body, `,"@removed":{"reason":"`+[...]string{"changed", "deleted"}[entry.number%2]+`"}}`...)
	}
	body = s.appendItem(body, entry.place, entry.number, entry.revision, v)
	if entry.members {
		member := appendUUID(nil, entry.place.hash, entry.number)
		body = append(body[:len(body)-1], `,"members@delta":[{"@odata.type":"#microsoft.graph.user","id":"`...)
		body = append(append(body, member...), `","@removed":{"reason":"deleted"}}]}`...)
	}
	return body
}

// ItemID returns the id of an item of a collection, by its number, if it is there.
func (s *Simulator) ItemID(path string, i int) (string, bool) {
	p, err := s.collectionAt(path)
	if err != nil || !s.exists(p, i) {
		return "", false
	}
	return string(s.appendID(nil, p, i)), true
}
