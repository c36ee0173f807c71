package simulator

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// view is how an answer shows what it shows.
type view struct {
	// inList says that the item is one of a list, which leaves out what is large.
	inList bool
	// selected are the names of `$select`; nil: everything.
	selected []string
	expand   []expansion
	// given are the properties that a `$filter` demands.
	given []property
	// turn counts answers: what is volatile follows from it.
	turn uint64
	// now is the time of the answer, as JSON.
	now []byte
}

type property struct{ name, value string }

// writer writes one JSON object.
type writer struct {
	out      []byte
	selected []string
	begun    bool
}

// key begins a property, and says whether it is wanted.
func (w *writer) key(name string) bool {
	if w.selected != nil && name[0] != '@' && name != "id" {
		wanted := false
		for _, s := range w.selected {
			wanted = wanted || strings.EqualFold(s, name)
		}
		if !wanted {
			return false
		}
	}
	if w.begun {
		w.out = append(w.out, ',')
	}
	w.begun = true
	w.out = append(w.out, '"')
	w.out = append(w.out, name...)
	w.out = append(w.out, '"', ':')
	return true
}

func (w *writer) raw(name, value string) {
	if w.key(name) {
		w.out = append(w.out, value...)
	}
}

func (w *writer) text(name, value string) {
	if w.key(name) {
		w.out = appendString(w.out, value)
	}
}

func (w *writer) numbered(name, value string, number int) {
	if w.key(name) {
		w.out = append(appendPlain(append(w.out, '"'), value), ' ')
		w.out = append(strconv.AppendInt(w.out, int64(number), 10), '"')
	}
}

func (w *writer) integer(name string, value uint64) {
	if w.key(name) {
		w.out = strconv.AppendUint(w.out, value, 10)
	}
}

func (w *writer) boolean(name string, value bool) {
	if w.key(name) {
		w.out = strconv.AppendBool(w.out, value)
	}
}

// id writes an id made of a seed.
func (w *writer) id(name string, seed uint64) {
	if w.key(name) {
		w.out = append(appendUUID(append(w.out, '"'), mix(seed), int(seed%1000)), '"')
	}
}

func (w *writer) time(name string, at time.Time) {
	if w.key(name) {
		w.out = append(at.AppendFormat(append(w.out, '"'), time.RFC3339), '"')
	}
}

// appendString appends a JSON string.
func appendString(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // of a string: never
				return append(out, `""`...)
			}
			return append(out, quoted...)
		}
	}
	return append(append(append(out, '"'), s...), '"')
}

// appendPlain appends text that needs no escape.
func appendPlain(out []byte, s string) []byte { return append(out, s...) }

var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// appendItem appends the document of an item of a collection.
func (s *Simulator) appendItem(out []byte, p place, number, revision int, v *view) []byte {
	seed := itemSeed(p.hash, number)
	shape := p.node.shape
	w := &writer{out: append(out, '{'), selected: v.selected}
	w.volatile(seed, v)
	if w.key(shape.idProperty) {
		w.out = s.appendItemID(w.out, p, number)
	}
	switch {
	case shape.nameProperty == shape.idProperty:
	case s.isHostile(p, number):
		w.text(shape.nameProperty, hostileIDs()[number])
	default:
		w.name(s, p, number, revision)
	}
	s.appendContent(w, p, seed, number, revision, v)
	return append(w.out, '}')
}

// name writes what an item is called. Only one that was changed has another name.
func (w *writer) name(s *Simulator, p place, number, revision int) {
	if revision > 0 {
		if name, ok := s.data.names.Load(itemKey{p.hash, number}); ok {
			w.text(p.node.shape.nameProperty, name.(string))
			return
		}
	}
	w.numbered(p.node.shape.nameProperty, p.node.shape.title, number+1)
}

func (s *Simulator) appendItemID(out []byte, p place, number int) []byte {
	if s.isHostile(p, number) {
		return appendString(out, hostileIDs()[number])
	}
	return append(s.appendID(append(out, '"'), p, number), '"')
}

// appendObject appends the document of an object that is no item.
func (s *Simulator) appendObject(out []byte, p place, revision int, v *view) []byte {
	w := &writer{out: append(out, '{'), selected: v.selected}
	seed := p.seed()
	w.volatile(seed, v)
	w.text("id", p.node.name)
	w.text(p.node.shape.nameProperty, p.node.shape.title)
	s.appendContent(w, p, seed, 0, revision, v)
	return append(w.out, '}')
}

// volatile writes what differs in every answer though nothing changed.
func (w *writer) volatile(seed uint64, v *view) {
	if w.key("@odata.etag") {
		w.out = append(w.out, `"W/\"`...)
		w.out = append(strconv.AppendUint(w.out, mix(seed^v.turn), 16), `\""`...)
	}
	if w.key("lastModifiedDateTime") {
		w.out = append(w.out, v.now...)
	}
}

func (s *Simulator) appendContent(w *writer, p place, seed uint64, number, revision int, v *view) {
	shape := p.node.shape
	if w.key("description") {
		w.out = append(append(append(w.out, `"Simulated `...), shape.noun...), ", revision "...)
		w.out = append(strconv.AppendInt(w.out, int64(revision+1), 10), '"')
	}
	w.time("createdDateTime", epoch.Add(time.Duration(seed%31_000_000)*time.Second))
	w.boolean("isEnabled", seed&1 == 0)
	w.integer("priority", seed%100)
	// Numbers that a reader must not go through a float with.
	w.raw("unknownInFuture", "1.10")
	w.raw("largeIdentifier", "9007199254740993")
	if shape.scopeTags && w.key("roleScopeTagIds") {
		// A set: the order says nothing.
		w.out = append(w.out, [...]string{`["0","1","2"]`, `["2","0","1"]`, `["1","2","0"]`}[v.turn%3]...)
	}
	for _, g := range v.given {
		if !shape.has(g.name) {
			w.text(g.name, g.value)
		}
	}
	if shape.fields != nil {
		shape.fields(w, &content{
			seed: seed, number: number, view: v, marker: s.config.Marker, clientID: s.config.ClientID,
			groups: extend(mix(s.config.Seed+1), "groups"), items: s.config.Items,
		})
	}
	for _, name := range shape.secrets {
		if w.key(name) {
			w.out = appendSecret(w.out, s.config.Marker, name, seed)
		}
	}
	for i := range v.expand {
		w.expansion(&v.expand[i], mix(seed+uint64(i)+1), s.config.Marker)
	}
}

// appendSecret appends a secret that a search for the marker finds.
func appendSecret(out []byte, marker, name string, seed uint64) []byte {
	out = append(appendPlain(append(out, '"'), marker), "SECRET"...)
	return append(strconv.AppendUint(append(out, name...), seed, 16), '"')
}
