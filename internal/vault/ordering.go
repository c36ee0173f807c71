package vault

import (
	"bytes"
	"cmp"
	"slices"
)

// sortMembers sorts the members of an object by name. It returns false when two
// have one name.
func sortMembers(members []member) bool {
	byName := func(a, b member) int { return bytes.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(members, byName) {
		slices.SortFunc(members, byName)
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(members[i-1].name, members[i].name) {
			return false
		}
	}
	return true
}

// order sorts an array by a property of its elements, then by their bytes.
func (e *encoder) order(array node, by []string) {
	type keyed struct {
		key, text []byte
		member    member
	}
	elements := make([]keyed, array.count)
	children := e.members[array.first : array.first+array.count]
	var texts []byte // slices of it stay valid when it grows: they keep what they had
	for i, child := range children {
		elements[i].member = child
		if found, ok := e.find(child.node, by); ok {
			elements[i].key, texts = e.text(texts, found)
		}
		elements[i].text, texts = e.text(texts, child.node)
	}
	slices.SortFunc(elements, func(a, b keyed) int {
		return cmp.Or(bytes.Compare(a.key, b.key), bytes.Compare(a.text, b.text))
	})
	for i := range elements {
		children[i] = elements[i].member
	}
}

// text returns a value's text, appended to others.
func (e *encoder) text(texts []byte, value int) (text, all []byte) {
	all = e.append(texts, value, 0)
	return all[len(texts):len(all):len(all)], all
}

// find returns the property at a path.
func (e *encoder) find(value int, path []string) (int, bool) {
	for _, name := range path {
		n := e.nodes[value]
		members := e.members[n.first : n.first+n.count]
		i := slices.IndexFunc(members, func(m member) bool { return m.name != nil && string(m.name) == name })
		if i < 0 {
			return 0, false
		}
		value = members[i].node
	}
	return value, len(path) > 0
}
