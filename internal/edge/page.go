package edge

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxPage is how many elements a page has at most.
	maxPage = 1000
	// maxResponse is the size of a response in bytes, without the page token.
	maxResponse = 1<<20 - 2048
)

// pageSize returns how many elements a page may have.
func pageSize(requested, initial int32) int {
	if requested == 0 {
		requested = initial
	}
	return int(min(requested, maxPage))
}

// page collects the elements of one response.
type page[T proto.Message] struct {
	limit    int
	elements []T
	size     int
	// more says that an element did not fit: there is another page.
	more bool
}

// add adds an element, or says that the page is full. A page has at least one
// element, whatever its size.
func (p *page[T]) add(element T) bool {
	content := proto.Size(element)
	size := content + protowire.SizeVarint(uint64(content)) + 1
	if len(p.elements) == p.limit || (len(p.elements) > 0 && p.size+size > maxResponse) {
		p.more = true
		return false
	}
	p.elements = append(p.elements, element)
	p.size += size
	return true
}

// last returns the last element of the page.
func (p *page[T]) last() T { return p.elements[len(p.elements)-1] }
