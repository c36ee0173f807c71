package simulator

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// limits are the documented ones of the workloads that matter most to a reader of
// configuration. A part of a batch counts as a request of its own.
// https://learn.microsoft.com/graph/throttling-limits
type limits struct {
	on bool

	mu      sync.Mutex
	windows map[string]*window
	units   bucket
}

// window counts requests of a stretch of time.
type window struct {
	start time.Time
	count int
}

// The quota of the directory in the smallest tenants, for one application.
const (
	directoryUnits  = 3500
	directoryPeriod = 10 * time.Second
	// showShareFrom is the share of the quota from which answers tell it.
	showShareFrom = 0.8
)

// bucket holds the resource units that are left; it fills up with time.
type bucket struct {
	used float64
	at   time.Time
}

// take takes units out of the bucket, and returns the share that is used then. When
// there are not enough left, nothing is taken, and wait says until when.
func (b *bucket) take(now time.Time, units int) (share float64, wait time.Duration) {
	perSecond := directoryUnits / directoryPeriod.Seconds()
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	if excess := b.used + float64(units) - directoryUnits; excess > 0 {
		return b.used / directoryUnits, time.Duration(excess / perSecond * float64(time.Second))
	}
	b.used += float64(units)
	return b.used / directoryUnits, 0
}

// check counts a request. It returns 429 when it is over the limit of its workload,
// else the headers that its answer has. Conditional Access does not say how long to
// wait; the others do.
func (l *limits) check(q *request) (refusal answer, limited bool, headers [][2]string) {
	if !l.on {
		return answer{}, false, nil
	}
	first, second := strings.ToLower(q.segments[0]), ""
	if len(q.segments) > 1 {
		second = strings.ToLower(q.segments[1])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch now := time.Now(); {
	case first == "identity" && second == "conditionalaccess", first == "identityprotection":
		if _, over := l.over(now, "conditional-access", 1, time.Second); over {
			return tooMany(0), true, nil
		}
	case first == "devicemanagement" || first == "deviceappmanagement":
		if wait, over := l.over(now, "intune", 1000, 20*time.Second); over {
			return tooMany(wait), true, nil
		}
	case first == "groups" && strings.EqualFold(q.segments[len(q.segments)-1], "team"):
		if wait, over := l.over(now, "teams", 30, time.Second); over {
			return tooMany(wait), true, nil
		}
	case contains(directorySegments, first):
		units := unitsOf(q)
		share, wait := l.units.take(now, units)
		if wait > 0 {
			return tooMany(wait), true, nil
		}
		headers = append(headers, [2]string{"x-ms-resource-unit", strconv.Itoa(units)})
		if share > showShareFrom {
			headers = append(headers, [2]string{"x-ms-throttle-limit-percentage", strconv.FormatFloat(share, 'f', 2, 64)})
		}
	}
	return answer{}, false, headers
}

// tooMany is the answer to one request too many. It says how long to wait, in whole
// seconds, unless that is 0.
func tooMany(wait time.Duration) answer {
	f := fault{status: http.StatusTooManyRequests, code: codeOf(http.StatusTooManyRequests)}
	if wait > 0 {
		f.retryAfter = int(wait/time.Second) + 1
	}
	return f.refusal("")
}

// over counts a request, and says whether it is one too many and how long the
// window lasts. The caller holds the limits.
func (l *limits) over(now time.Time, name string, requests int, per time.Duration) (time.Duration, bool) {
	w := l.windows[name]
	if w == nil || now.Sub(w.start) >= per {
		w = &window{start: now}
		l.windows[name] = w
	}
	w.count++
	return per - now.Sub(w.start), w.count > requests
}

// directorySegments are where the paths begin that cost resource units.
var directorySegments = []string{
	"applications", "contacts", "contracts", "devices", "directory", "directoryobjects", "directoryroles", "directoryroletemplates",
	"domains", "groups", "grouplifecyclepolicies", "groupsettings", "groupsettingtemplates", "oauth2permissiongrants", "organization",
	"policies", "serviceprincipals", "subscribedskus", "users",
}

// unitsOf is what a request to the directory costs.
func unitsOf(q *request) int {
	cost := 1
	switch first, last := strings.ToLower(q.segments[0]), strings.ToLower(q.segments[len(q.segments)-1]); {
	case first == "groups" && last == "transitivemembers":
		cost = 5
	case first == "domains" && last == "domainnamereferences":
		cost = 4
	case first == "groups" && last == "members", first == "contracts", first == "subscribedskus":
		cost = 3
	case first == "oauth2permissiongrants", first == "serviceprincipals" && last == "approleassignments",
		first == "applications" && last == "extensionproperties", len(q.segments) == 1 && (first == "applications" || first == "users"):
		cost = 2
	}
	// A query that is not valid is refused by others.
	for part := range strings.SplitSeq(strings.ReplaceAll(q.query, "%24", "$"), "&") {
		name, value, _ := strings.Cut(part, "=")
		top, err := strconv.Atoi(value)
		switch {
		case name == "$select", name == "$top" && err == nil && top < 20:
			cost--
		case name == "$expand":
			cost++
		}
	}
	return max(cost, 1)
}
