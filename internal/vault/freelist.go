package vault

// freeList keeps a few costly things for the next who needs one. Unlike a
// sync.Pool it is not emptied when memory is collected, which with a small heap is
// all the time.
type freeList[T any] struct {
	free  chan T
	build func() T
}

// keptFree is how many things of a kind are kept: enough for the processors that
// one tenant keeps busy.
const keptFree = 4

func newFreeList[T any](build func() T) freeList[T] {
	return freeList[T]{free: make(chan T, keptFree), build: build}
}

func (l freeList[T]) get() T {
	select {
	case t := <-l.free:
		return t
	default:
		return l.build()
	}
}

func (l freeList[T]) put(t T) {
	select {
	case l.free <- t:
	default:
	}
}
