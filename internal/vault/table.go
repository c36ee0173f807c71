package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// table holds the items of a type: file → content, and line of the index. It keeps
// about 35 bytes of each in memory; names and lines are in the scratch of the
// staging. It is not for concurrent use.
type table struct {
	reader  scratchReader
	entries list[tableEntry]
	index   hashIndex
	// nameBytes and lineBytes are how long all names and lines are.
	nameBytes, lineBytes int64
	// last is the last name as long as they come in order.
	last     []byte
	disorder bool
	// sorted is made when it is needed.
	sorted *sortedNames
}

type tableEntry struct {
	blob plumbing.Hash
	hash uint32
	// at is where the record is, in steps of recordStep.
	at uint32
}

// A record is the lengths of name and line, the name, and the line.
const (
	recordStep   = 8
	recordHeader = 8
)

var tableSeed = maphash.MakeSeed()

func newTable(s *scratch) *table { return &table{reader: scratchReader{scratch: s}} }

func (t *table) len() int { return t.entries.n }

// find returns the content of a file.
func (t *table) find(name string) (blob plumbing.Hash, ok bool, err error) {
	hash := uint32(maphash.String(tableSeed, name))
	place, ok := t.index.find(hash, func(place int) bool {
		e := t.entries.at(place)
		if e.hash != hash || err != nil {
			return false
		}
		var known []byte
		known, _, err = t.record(e, readRandom)
		return err == nil && string(known) == name
	})
	if !ok || err != nil {
		return plumbing.ZeroHash, false, err
	}
	return t.entries.at(place).blob, true, nil
}

// has says whether there is a file.
func (t *table) has(name string) (bool, error) {
	_, ok, err := t.find(name)
	return ok, err
}

// add adds a file that the table does not have.
func (t *table) add(name, line []byte, blob plumbing.Hash) error {
	record := make([]byte, recordHeader, recordHeader+len(name)+len(line)+recordStep)
	binary.LittleEndian.PutUint32(record, uint32(len(name)))
	binary.LittleEndian.PutUint32(record[4:], uint32(len(line)))
	record = append(append(record, name...), line...)
	record = record[:(len(record)+recordStep-1)/recordStep*recordStep]
	at, err := t.reader.scratch.add(record)
	if err != nil {
		return err
	}
	if at/recordStep > 1<<32-1 {
		return errors.New("the tenant has more than 32 GiB of names")
	}
	hash := uint32(maphash.Bytes(tableSeed, name))
	t.entries.add(tableEntry{blob: blob, hash: hash, at: uint32(at / recordStep)})
	t.index.add(hash, t.entries.n-1, func(place int) uint32 { return t.entries.at(place).hash })
	t.nameBytes += int64(len(name))
	t.lineBytes += int64(len(line))
	t.disorder = t.disorder || bytes.Compare(t.last, name) >= 0
	t.last = append(t.last[:0], name...)
	t.sorted = nil
	return nil
}

// record returns name and line of an entry, valid until the next call.
func (t *table) record(e *tableEntry, more int) (name, line []byte, err error) {
	at := int64(e.at) * recordStep
	header, err := t.reader.bytes(at, recordHeader, more)
	if err != nil {
		return nil, nil, err
	}
	nameSize, lineSize := int(binary.LittleEndian.Uint32(header)), int(binary.LittleEndian.Uint32(header[4:]))
	record, err := t.reader.bytes(at, recordHeader+nameSize+lineSize, more)
	if err != nil {
		return nil, nil, err
	}
	return record[recordHeader : recordHeader+nameSize], record[recordHeader+nameSize:], nil
}

// each gives the files to visit, ordered by name. What it gives is valid for the
// call only.
func (t *table) each(visit func(name []byte, blob plumbing.Hash) error) error {
	return t.walk(false, func(name, _ []byte, blob plumbing.Hash) error { return visit(name, blob) })
}

// eachLine is each with the lines.
func (t *table) eachLine(visit func(line []byte) error) error {
	return t.walk(true, func(_, line []byte, _ plumbing.Hash) error { return visit(line) })
}

func (t *table) walk(lines bool, visit func(name, line []byte, blob plumbing.Hash) error) error {
	if !t.disorder {
		return t.asAdded(visit)
	}
	if err := t.sort(); err != nil {
		return err
	}
	for _, place := range t.sorted.order {
		e := t.entries.at(int(place))
		name, line := t.sorted.name(place), []byte(nil)
		if lines {
			var err error
			if _, line, err = t.record(e, readRandom); err != nil {
				return err
			}
		}
		if err := visit(name, line, e.blob); err != nil {
			return err
		}
	}
	return nil
}

// asAdded gives the files to visit as they were added.
func (t *table) asAdded(visit func(name, line []byte, blob plumbing.Hash) error) error {
	for i := range t.entries.n {
		e := t.entries.at(i)
		name, line, err := t.record(e, readAhead)
		if err != nil {
			return err
		}
		if err := visit(name, line, e.blob); err != nil {
			return err
		}
	}
	return nil
}

// sortedNames are the names of a table, and their order.
type sortedNames struct {
	text  []byte
	ends  []int // where names end in text
	order []uint32
}

func (s *sortedNames) name(place uint32) []byte {
	begin := 0
	if place > 0 {
		begin = s.ends[place-1]
	}
	return s.text[begin:s.ends[place]]
}

// sort makes sorted.
func (t *table) sort() error {
	if t.sorted != nil {
		return nil
	}
	s := &sortedNames{
		text: make([]byte, 0, t.nameBytes), ends: make([]int, 0, t.entries.n), order: make([]uint32, 0, t.entries.n),
	}
	err := t.asAdded(func(name, _ []byte, _ plumbing.Hash) error {
		s.order = append(s.order, uint32(len(s.ends)))
		s.text = append(s.text, name...)
		s.ends = append(s.ends, len(s.text))
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(s.order, func(a, b uint32) int { return bytes.Compare(s.name(a), s.name(b)) })
	t.sorted = s
	return nil
}
