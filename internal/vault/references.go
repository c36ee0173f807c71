package vault

import (
	"bytes"
	"slices"
)

// objectGUID is an id as most objects of Microsoft Graph have one.
type objectGUID [16]byte

// guidText is how long such an id is as it is written.
const guidText = len("00000000-0000-0000-0000-000000000000")

// parseGUID reads an id in its canonical form, the one that Graph uses: lower case, no
// braces. Other forms are no ids of items, which are compared as text.
func parseGUID(text []byte) (id objectGUID, ok bool) {
	if len(text) != guidText {
		return id, false
	}
	at := 0
	for i := 0; i < guidText; {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if text[i] != '-' {
				return id, false
			}
			i++
		}
		high, low := hexValue(text[i]), hexValue(text[i+1])
		if high > 15 || low > 15 {
			return id, false
		}
		id[at] = high<<4 | low
		at, i = at+1, i+2
	}
	return id, true
}

func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

const hexDigits = "0123456789abcdef"

// appendGUID is the inverse of parseGUID.
func appendGUID(out []byte, id objectGUID) []byte {
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hexDigits[b>>4], hexDigits[b&15])
	}
	return out
}

func compareGUIDs(a, b objectGUID) int { return bytes.Compare(a[:], b[:]) }

// referencesIn returns the ids that an item may refer to: the texts in its document
// that are a GUID, and nothing else, but for its own id. The document is canonical, so
// what is secret in it is hidden: an id that is one is none here. Names of properties
// do not count.
func referencesIn(document []byte, own string) (found []objectGUID) {
	self, _ := parseGUID([]byte(own))
	for i := 0; ; i++ {
		next := bytes.IndexByte(document[i:], '"')
		if next < 0 {
			return found
		}
		i += next
		end := i + 1 + guidText
		if end >= len(document) || document[end] != '"' || document[i+9] != '-' {
			continue
		}
		// A quote within a text has a backslash before it. After one that ends a text
		// comes no digit, so this one begins it.
		if i > 0 && document[i-1] == '\\' || end+1 < len(document) && document[end+1] == ':' {
			continue
		}
		id, ok := parseGUID(document[i+1 : end])
		if !ok {
			continue
		}
		if i = end; id != self {
			found = append(found, id)
		}
	}
}

// maxReferences is how many ids of a type are in memory.
const maxReferences = 16 << 10

// references are the ids that the items of a type refer to. Up to maxReferences are in
// memory; when those are full they become a run in the scratch: sorted, each id once.
// It is not for concurrent use.
type references struct {
	scratch *scratch
	ids     []objectGUID
	runs    []*spool
}

func (r *references) add(ids ...objectGUID) error {
	for _, id := range ids {
		r.ids = append(r.ids, id)
		if len(r.ids) < maxReferences {
			continue
		}
		if r.compact(); len(r.ids) > maxReferences/2 {
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// compact sorts what is in memory, and takes out what is there twice.
func (r *references) compact() {
	slices.SortFunc(r.ids, compareGUIDs)
	r.ids = slices.Compact(r.ids)
}

// flush makes a run of what is in memory.
func (r *references) flush() error {
	run := &spool{scratch: r.scratch}
	for i := range r.ids {
		if _, err := run.Write(r.ids[i][:]); err != nil {
			return err
		}
	}
	r.runs, r.ids = append(r.runs, run), r.ids[:0]
	return nil
}

// finish makes one run of everything, when nothing is added any more, and returns it;
// nil when there is nothing.
func (r *references) finish() (*spool, error) {
	r.compact()
	if len(r.ids) > 0 {
		if err := r.flush(); err != nil {
			return nil, err
		}
	}
	r.ids = nil
	if len(r.runs) > 1 {
		all, err := r.merged()
		if err != nil {
			return nil, err
		}
		r.runs = []*spool{all}
	}
	if len(r.runs) == 0 {
		return nil, nil
	}
	return r.runs[0], nil
}

// merged returns the ids of all runs as one.
func (r *references) merged() (*spool, error) {
	var streams idStreams
	for _, run := range r.runs {
		if err := streams.add(run, idStream{}); err != nil {
			return nil, err
		}
	}
	all := &spool{scratch: r.scratch}
	for last := (objectGUID{}); len(streams) > 0; {
		if id := streams.first().id; id != last || all.size() == 0 {
			last = id
			if _, err := all.Write(id[:]); err != nil {
				return nil, err
			}
		}
		if err := streams.advance(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
