package simulator

import (
	"encoding/binary"
	"encoding/hex"
)

// Items are made when they are asked for: the collection and the number of an item
// are in its id, and everything else follows from them.

// place is what a path names.
type place struct {
	node *node
	// hash names the object or the collection; of an item, its collection.
	hash uint64
	// number is that of an item, from 0.
	number int
	// depth is how many items are named above.
	depth int
}

// seed is what the content of an object or item follows from.
func (p place) seed() uint64 {
	if p.node.kind == item {
		return itemSeed(p.hash, p.number)
	}
	return p.hash
}

func itemSeed(collection uint64, number int) uint64 {
	return mix(collection + uint64(number+1)*0x9e3779b97f4a7c15)
}

// mix is the finalizer of SplitMix64: every bit of x reaches every bit of the
// result.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// extend returns the hash of a path with one more segment; case does not count.
func extend(h uint64, segment string) uint64 {
	f := uint64(14695981039346656037) // FNV-1a
	for i := range len(segment) {
		c := segment[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		f = (f ^ uint64(c)) * 1099511628211
	}
	return mix(h ^ f)
}

// missing says why a path names nothing.
type missing struct {
	// segment is the one that no path has; empty when it is an item that does not
	// exist.
	segment string
}

// resolve returns what the segments of a path name. Items that do not exist are
// missing, at any place of the path.
func (s *Simulator) resolve(root *node, segments []string) (place, *missing) {
	// Two paths may fit, one with a name where the other has an id: the name is
	// preferred, as long as it leads on.
	var fits [4]*node
	current := append(fits[:0], root)
	p := place{node: root, hash: mix(s.config.Seed + 1)}
	for _, segment := range segments {
		var found [4]*node
		next := found[:0]
		key := segmentKey(segment)
		for _, n := range current {
			if child := n.literal[key]; child != nil && len(next) < cap(next) {
				next = append(next, child)
			}
		}
		byName := len(next) > 0
		for _, n := range current {
			if n.wild != nil && len(next) < cap(next) {
				next = append(next, n.wild)
			}
		}
		switch {
		case len(next) == 0:
			return p, &missing{segment: segment}
		case byName:
			p.hash, p.number = extend(p.seed(), segment), 0
		default:
			if m := s.enter(&p, segment); m != nil {
				p.node = next[0]
				return p, m
			}
		}
		p.node = next[0]
		current = append(fits[:0], next...)
	}
	for _, n := range current {
		if n.documented {
			p.node = n
			break
		}
	}
	return p, nil
}

// enter goes from a collection to the item with an id.
func (s *Simulator) enter(p *place, id string) *missing {
	number, hash, ok := s.numberOf(*p, id)
	if !ok {
		return &missing{}
	}
	if p.node.known == nil {
		p.depth++
	}
	p.hash, p.number = hash, number
	return nil
}

// numberOf returns the number of the item with an id, and the collection that it
// is of.
func (s *Simulator) numberOf(p place, id string) (number int, collection uint64, ok bool) {
	for i, known := range p.node.known {
		if equalFold(known, id) {
			return i, p.hash, true
		}
	}
	if s.config.Hostile {
		for i, hostile := range hostileIDs() {
			if hostile == id && s.isHostile(p, i) {
				return i, p.hash, p.node.foreign || s.exists(p, i)
			}
		}
	}
	collection, number, ok = parseID(id)
	if !ok {
		return 0, 0, false
	}
	if p.node.foreign && collection != p.hash {
		return number, collection, true
	}
	return number, collection, collection == p.hash && s.exists(p, number)
}

func equalFold(a, b string) bool { return extend(0, a) == extend(0, b) }

// exists says whether a collection has an item.
func (s *Simulator) exists(p place, number int) bool {
	s.data.RLock()
	defer s.data.RUnlock()
	return number < s.count(p) && !s.data.removed[itemKey{p.hash, number}]
}

// count returns how many items a collection has, those that were removed
// included. Below an item there are a few. The caller holds the data.
func (s *Simulator) count(p place) int {
	if n, ok := s.data.counts[p.hash]; ok {
		return n
	}
	switch {
	case p.node.known != nil:
		return len(p.node.known)
	case p.depth > 0:
		return int(p.hash % uint64(s.config.Children+1))
	default:
		return s.config.Items
	}
}

// appendID appends the id of an item.
func (s *Simulator) appendID(out []byte, p place, number int) []byte {
	if number < len(p.node.known) {
		return append(out, p.node.known[number]...)
	}
	if s.isHostile(p, number) {
		return append(out, hostileIDs()[number]...)
	}
	return appendUUID(out, p.hash, number)
}

// isHostile says whether an item, of a collection that is not below another item,
// is one of the hostile ones. The place is the collection's or the item's own.
func (s *Simulator) isHostile(p place, number int) bool {
	depth := p.depth
	if p.node.kind == item {
		depth--
	}
	return s.config.Hostile && depth == 0 && p.node.known == nil && number < len(hostileIDs())
}

// appendUUID appends an id that holds the hash of the collection and the number.
func appendUUID(out []byte, collection uint64, number int) []byte {
	var b [16]byte
	binary.BigEndian.PutUint32(b[0:], uint32(collection>>32))
	binary.BigEndian.PutUint16(b[4:], uint16(collection>>16))
	binary.BigEndian.PutUint16(b[6:], 0x4000|uint16(collection>>4)&0xfff)
	binary.BigEndian.PutUint16(b[8:], 0x8000|uint16(collection&0xf)<<8)
	n := uint64(number + 1)
	binary.BigEndian.PutUint16(b[10:], uint16(n>>32))
	binary.BigEndian.PutUint32(b[12:], uint32(n))
	start := len(out)
	out = append(out, "00000000-0000-0000-0000-000000000000"...)
	text := out[start:]
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	return out
}

// parseID is the inverse of appendUUID.
func parseID(id string) (collection uint64, number int, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return 0, 0, false
	}
	var text [32]byte
	copy(text[0:], id[0:8])
	copy(text[8:], id[9:13])
	copy(text[12:], id[14:18])
	copy(text[16:], id[19:23])
	copy(text[20:], id[24:36])
	var b [16]byte
	if _, err := hex.Decode(b[:], text[:]); err != nil {
		return 0, 0, false
	}
	third, fourth := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[8:])
	n := uint64(binary.BigEndian.Uint16(b[10:]))<<32 | uint64(binary.BigEndian.Uint32(b[12:]))
	if third>>12 != 4 || fourth&0xf0ff != 0x8000 || n == 0 {
		return 0, 0, false
	}
	collection = uint64(binary.BigEndian.Uint32(b[0:]))<<32 | uint64(binary.BigEndian.Uint16(b[4:]))<<16 |
		uint64(third&0xfff)<<4 | uint64(fourth>>8&0xf)
	return collection, int(n - 1), true
}
