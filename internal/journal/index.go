package journal

import (
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// entry is what the index knows of a sync.
type entry struct {
	name, tenant      string
	finished          bool
	requestID, digest string
}

// id is the last part of the name: it sorts by the time of creation.
func (e *entry) id() string { return e.name[strings.LastIndexByte(e.name, '/')+1:] }

// created returns when the sync was accepted.
func (e *entry) created() time.Time {
	id, err := ulid.ParseStrict(strings.ToUpper(e.id()))
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(id.Time())
}

// index finds syncs by tenant, by time and by request. It is made anew at every
// start from the headers of the records.
type index struct {
	byName map[string]*entry
	// all and byTenant are ordered by creation.
	all      []*entry
	byTenant map[string][]*entry
	// requests finds a sync by tenant and request_id.
	requests map[string]*entry
	// last has, by tenant, the stream's sequence up to which every record of the tenant is
	// known: it grows only where nothing before it can be missing.
	last map[string]uint64
}

func newIndex() *index {
	return &index{
		byName: map[string]*entry{}, byTenant: map[string][]*entry{}, requests: map[string]*entry{}, last: map[string]uint64{},
	}
}

func requestKey(tenant, requestID string) string { return tenant + " " + requestID }

func compareEntries(a, b *entry) int { return strings.Compare(a.id(), b.id()) }

// add takes a sync in, in any order: of those that one request_id created, one after
// the other was forgotten, the newest counts.
func (x *index) add(e *entry) {
	x.byName[e.name] = e
	x.all = insert(x.all, e)
	x.byTenant[e.tenant] = insert(x.byTenant[e.tenant], e)
	if e.requestID == "" {
		return
	}
	request := requestKey(e.tenant, e.requestID)
	if known := x.requests[request]; known == nil || compareEntries(known, e) < 0 {
		x.requests[request] = e
	}
}

// known notes that every record of a tenant up to a stream's sequence is known.
func (x *index) known(tenant string, sequence uint64) {
	x.last[tenant] = max(x.last[tenant], sequence)
}

// insert keeps the order; syncs are almost always added at the end.
func insert(entries []*entry, e *entry) []*entry {
	if n := len(entries); n == 0 || compareEntries(entries[n-1], e) < 0 {
		return append(entries, e)
	}
	i, _ := slices.BinarySearchFunc(entries, e, compareEntries)
	return slices.Insert(entries, i, e)
}

// list returns at most limit entries of a tenant, or of all for `tenants/-`,
// newest first, that are older than the one named before.
func (x *index) list(parent, before string, limit int) []*entry {
	entries := x.byTenant[parent]
	if parent == "tenants/-" {
		entries = x.all
	}
	if before != "" {
		i, _ := slices.BinarySearchFunc(entries, &entry{name: before}, compareEntries)
		entries = entries[:i]
	}
	entries = slices.Clone(entries[max(0, len(entries)-limit):])
	slices.Reverse(entries)
	return entries
}

// forget drops finished syncs created before a time.
func (x *index) forget(before time.Time) {
	drop := func(e *entry) bool { return e.finished && e.created().Before(before) }
	for _, e := range x.all {
		if drop(e) {
			delete(x.byName, e.name)
			if key := requestKey(e.tenant, e.requestID); x.requests[key] == e {
				delete(x.requests, key)
			}
		}
	}
	x.all = slices.DeleteFunc(x.all, drop)
	for tenant, entries := range x.byTenant {
		if entries = slices.DeleteFunc(entries, drop); len(entries) == 0 {
			delete(x.byTenant, tenant)
			delete(x.last, tenant)
		} else {
			x.byTenant[tenant] = entries
		}
	}
}

// tenantOf returns the `tenants/{tenant}` that a sync name begins with.
func tenantOf(name string) string {
	tenant, _, _ := strings.Cut(name, "/syncs/")
	return tenant
}
