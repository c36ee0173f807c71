package graph

import "sync"

// repeatedWithin is how many items back a repeated one is noticed, at least.
const repeatedWithin = 10_000

// repeated knows the items that a list brought lately, so that one that lies in two
// pages is not read twice. A list that moved repeats what is near; what is farther
// back is read again, and the vault tells whether it is the same. So what is kept
// does not grow with the tenant.
type repeated struct {
	mu sync.Mutex
	// recent and before hold the hashes of what the list said, by id.
	recent, before map[string]uint64
}

// same says whether the list said the same of an item before, and notes what it says
// now. The id is compared as it is: no two items are taken for one.
func (r *repeated) same(id string, content uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.recent[id]
	if !known {
		last, known = r.before[id]
	}
	if len(r.recent) >= repeatedWithin {
		r.before, r.recent = r.recent, nil
	}
	if r.recent == nil {
		r.recent = make(map[string]uint64)
	}
	r.recent[id] = content
	return known && last == content
}
