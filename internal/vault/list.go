package vault

// list is a long slice that never copies what it has: a slice that grows by copying
// needs more than twice its memory while it does.
type list[T any] struct {
	pieces [][]T
	n      int
}

// listPiece is how much a piece holds; the first begins smaller.
const listPiece = 4096

func (l *list[T]) add(v T) {
	if l.n%listPiece == 0 {
		var piece []T
		if l.n > 0 {
			piece = make([]T, 0, listPiece)
		}
		l.pieces = append(l.pieces, piece)
	}
	last := len(l.pieces) - 1
	l.pieces[last] = append(l.pieces[last], v)
	l.n++
}

func (l *list[T]) at(i int) *T { return &l.pieces[i/listPiece][i%listPiece] }

// hashIndex finds the elements of a list by a hash. It holds their places only: 4
// bytes for each, and room.
type hashIndex struct {
	slots []uint32 // place + 1; 0: free
	n     int
}

// find returns the place of the element that is the same.
func (x *hashIndex) find(hash uint32, same func(place int) bool) (int, bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(x.slots) - 1)
	for i := hash & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if place := int(x.slots[i] - 1); same(place) {
			return place, true
		}
	}
	return 0, false
}

// add adds an element that is not there. hashOf returns the hash of those that are.
func (x *hashIndex) add(hash uint32, place int, hashOf func(place int) uint32) {
	if 4*(x.n+1) > 3*len(x.slots) {
		before := x.slots
		x.slots = make([]uint32, max(8, 2*len(before)))
		for _, slot := range before {
			if slot != 0 {
				x.put(hashOf(int(slot-1)), slot)
			}
		}
	}
	x.n++
	x.put(hash, uint32(place+1))
}

func (x *hashIndex) put(hash, slot uint32) {
	mask := uint32(len(x.slots) - 1)
	i := hash & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = slot
}
