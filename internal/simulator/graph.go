package simulator

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answer is one answer of Graph, on its own or in a batch.
type answer struct {
	status  int
	headers [][2]string
	body    []byte
	// cut says that the body is not whole, as behind a proxy that lost its end.
	cut bool
}

// request is one GET of Graph, on its own or in a batch.
type request struct {
	// host is where the client found the simulator.
	host, version string
	// segments are those of the path below the version, unescaped.
	segments []string
	// path is the escaped path with version.
	path, query string
	token       *claims
}

// newRequest parses a path with version and query, as it is on the wire.
func newRequest(host, target string) (*request, bool) {
	path, query, _ := strings.Cut(target, "?")
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if len(segments) < 2 {
		return nil, false
	}
	for i, segment := range segments {
		if !strings.Contains(segment, "%") {
			continue
		}
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return nil, false
		}
		segments[i] = plain
	}
	return &request{host: host, version: segments[0], segments: segments[1:], path: strings.TrimSuffix(path, "/"), query: query}, true
}

// pause waits until answers are not held any more, and the latency of one; false when the
// client is gone.
func (s *Simulator) pause(r *http.Request) bool {
	if s.config.Hold != nil {
		select {
		case <-s.config.Hold:
		case <-r.Context().Done():
			return false
		case <-s.closed:
			return false
		}
	}
	if s.config.Latency <= 0 {
		return true
	}
	timer := time.NewTimer(s.config.Latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.closed:
	}
	return false
}

// serveGraph answers everything below /v1.0 and /beta.
func (s *Simulator) serveGraph(w http.ResponseWriter, r *http.Request) {
	if !s.pause(r) {
		panic(http.ErrAbortHandler)
	}
	s.countHTTP()
	target := r.URL.EscapedPath()
	if strings.HasSuffix(target, "/$batch") {
		s.batch(w, r)
		return
	}
	if r.Method != http.MethodGet {
		failed(http.StatusMethodNotAllowed, "Request_BadRequest", "The simulated tenant can only be read.").write(w)
		return
	}
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	q, ok := newRequest(r.Host, target)
	if !ok {
		failed(http.StatusBadRequest, "BadRequest", "The address is not valid.").write(w)
		return
	}
	q.token = s.readToken(r.Header.Get("Authorization"))
	s.answer(q).write(w)
}

func (a answer) write(w http.ResponseWriter) {
	for _, h := range a.headers {
		w.Header().Set(h[0], h[1])
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("request-id", uuid())
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may be gone
}

// answer answers one GET, and records it.
func (s *Simulator) answer(q *request) answer {
	if q.token == nil {
		return s.unauthorized()
	}
	root := s.trees[q.version]
	p, m := place{}, &missing{segment: q.segments[0]}
	if root != nil {
		p, m = s.resolve(root, q.segments)
	}
	f := s.graphFault(q)
	var a answer
	switch {
	case s.isRevoked(q.token):
		a = s.challenge(q.host)
	case f.status != 0:
		a = f.refusal(s.config.Marker)
	case m != nil && m.segment != "":
		p = place{}
		a = failed(http.StatusBadRequest, "BadRequest", "Resource not found for the segment '"+m.segment+"'.")
	default:
		a = s.limited(q, p, m, f)
	}
	if f.truncate && a.status == http.StatusOK {
		a.body, a.cut = a.body[:len(a.body)/2], true
	}
	s.record(q, p, a.status)
	return a
}

// limited answers what is at a place, unless it was asked too fast.
func (s *Simulator) limited(q *request, p place, m *missing, f fault) answer {
	a, limited, headers := s.limits.check(q)
	if limited {
		return a
	}
	a = s.permitted(q, p, m, f)
	a.headers = append(a.headers, headers...)
	return a
}

// permitted answers what is at a place, if the token allows it and the tenant has
// it.
func (s *Simulator) permitted(q *request, p place, m *missing, f fault) answer {
	if a, refused := s.forbid(q, p.node.access); refused {
		return a
	}
	if way := s.notAvailable(q, p); way.status != 0 {
		return way.refusal(s.config.Marker)
	}
	if m != nil {
		return failed(http.StatusNotFound, "Request_ResourceNotFound", "The resource does not exist.")
	}
	query, err := url.ParseQuery(q.query)
	if err != nil {
		return failed(http.StatusBadRequest, "BadRequest", "The query is not valid.")
	}
	if p.node.optional && p.depth > 0 && p.seed()%4 == 0 {
		return failed(http.StatusNotFound, "ResourceNotFound", "The item has no such object.")
	}
	v := s.view(query)
	switch p.node.kind {
	case collection:
		return s.list(q, p, query, v, f)
	case deltaFunction:
		return s.delta(q, query, v, f)
	default:
		return s.one(p, v)
	}
}

func (s *Simulator) view(query url.Values) *view {
	v := &view{turn: s.turn.Add(1), expand: parseExpand(query.Get("$expand"))}
	if names := query.Get("$select"); names != "" {
		v.selected = strings.Split(strings.ReplaceAll(names, " ", ""), ",")
	}
	v.now = append(time.Now().UTC().AppendFormat(append(v.now, '"'), time.RFC3339Nano), '"')
	return v
}

// forbid says whether a token lacks what a path needs. Both answers are Graph's.
func (s *Simulator) forbid(q *request, needed *access) (answer, bool) {
	if needed == nil {
		return answer{}, false
	}
	permissions := needed.delegated
	if q.token.Kind == application && (needed.application != nil || !s.letsIn(q)) {
		permissions = needed.application
		if permissions == nil {
			return failed(http.StatusForbidden, "Authorization_RequestDenied",
				s.config.Marker+"RAW The request is not supported in application-only context."), true
		}
	}
	if permissions == nil || !s.granted(q.token.Kind, permissions) {
		return failed(http.StatusForbidden, "Authorization_RequestDenied",
			s.config.Marker+"RAW Insufficient privileges to complete the operation."), true
	}
	return answer{}, false
}

// one answers an item or an object.
func (s *Simulator) one(p place, v *view) answer {
	s.data.RLock()
	revision := s.data.changed[itemKey{p.hash, p.number}]
	s.data.RUnlock()
	if p.node.kind != item {
		return answer{status: http.StatusOK, body: s.appendObject(nil, p, revision, v)}
	}
	return answer{status: http.StatusOK, body: s.appendItem(nil, p, p.number, revision, v)}
}

// maxTop is the largest page.
const maxTop = 999

// pageOf returns which items a page may have.
func (s *Simulator) pageOf(p place, query url.Values, count int, f fault) (from, to int, ok bool) {
	size := s.config.PageSize
	if top, err := strconv.Atoi(query.Get("$top")); err == nil && top > 0 {
		size = min(top, maxTop)
	}
	if f.pages {
		size = min(size, collapsed(count))
		size = max(size, 1)
	}
	if p.node.unpaged {
		size = count
	}
	if token := query.Get("$skiptoken"); token != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(token, "page-"))
		if err != nil || n < 0 {
			return 0, 0, false
		}
		from = n
	}
	return from, min(from+size, count), true
}

// list answers a page of a collection.
func (s *Simulator) list(q *request, p place, query url.Values, v *view, f fault) answer {
	v.inList = true
	keep := filtered(&p, v, query.Get("$filter"))
	s.data.RLock()
	defer s.data.RUnlock()
	count := s.count(p)
	if p.depth > 0 && !f.deep {
		f.cut, f.missing, f.pages = false, false, false
	}
	if f.cut {
		count = collapsed(count)
	}
	from, to, ok := s.pageOf(p, query, count, f)
	if !ok {
		return failed(http.StatusBadRequest, "BadRequest", "The skip token is not valid.")
	}
	if f.missing {
		to = min(to, collapsed(count))
	}
	body := make([]byte, 0, 256+max(to-from, 0)*640)
	body = append(body, `{"@odata.context":"https://`...)
	body = append(append(append(append(body, q.host...), '/'), q.version...), `/$metadata#simulated","value":[`...)
	first := true
	for i := from; i < to; i++ {
		n := i
		if p.depth > 0 && to-from == count { // a set: the order says nothing
			n = (i + int(v.turn%uint64(count))) % count
		}
		if s.data.removed[itemKey{p.hash, n}] || !keep(n) {
			continue
		}
		if !first {
			body = append(body, ',')
		}
		first = false
		body = s.appendItem(body, p, n, s.data.changed[itemKey{p.hash, n}], v)
	}
	body = append(body, ']')
	body = appendNextLink(body, q, from, to, to < count, f)
	return answer{status: http.StatusOK, body: append(body, '}')}
}

// collapsed is how many of a list's items are left when it collapses: few enough
// to be seen as a collapse.
func collapsed(count int) int {
	if left := count / 4; count-left >= 5 {
		return left
	}
	return 0
}

func appendNextLink(body []byte, q *request, from, to int, more bool, f fault) []byte {
	switch {
	case f.nextLink == "loop":
		to = from
	case f.nextLink == "foreign":
		return append(append(append(body, `,"@odata.nextLink":"https://graph.example.invalid`...), q.path...), `"`...)
	case !more || f.missing:
		return body
	}
	var link strings.Builder
	link.WriteString("https://" + q.host + q.path + "?")
	for part := range strings.SplitSeq(q.query, "&") {
		if part != "" && !strings.HasPrefix(part, "$skiptoken=") && !strings.HasPrefix(part, "%24skiptoken=") {
			link.WriteString(part + "&")
		}
	}
	link.WriteString("$skiptoken=page-" + strconv.Itoa(to))
	return appendString(append(body, `,"@odata.nextLink":`...), link.String())
}

// filtered applies a `$filter`, as far as it says which items a caller gets: it
// returns which numbers to keep, gives the items what the filter demands, and makes
// the list of one group one of its own.
func filtered(p *place, v *view, filter string) (keep func(number int) bool) {
	keep = func(int) bool { return true }
	if filter == "" || strings.HasPrefix(filter, "(") {
		return keep
	}
	for term := range strings.SplitSeq(filter, " and ") {
		name, value, ok := strings.Cut(term, " eq ")
		switch {
		case strings.HasPrefix(term, "appId in ("):
			keep = func(number int) bool { return number < len(remoteDesktopApplications) }
		case strings.HasPrefix(term, "resourceProvisioningOptions/"), strings.HasPrefix(term, "onPremisesPublishing/"):
			keep = someOfMany
		case !ok || strings.ContainsAny(name, "/( "):
		case name == "isAssignableToRole":
			keep = assignableToRole
		case name == "groupId", name == "scopeId" && value != "'/'":
			p.hash = extend(p.hash, value)
			p.depth++
			fallthrough
		default:
			v.given = append(v.given, property{name, strings.ReplaceAll(strings.Trim(value, "'"), "''", "'")})
		}
	}
	return keep
}
