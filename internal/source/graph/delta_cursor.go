package graph

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// cursorForm is the form of a cursor, and of what a reading makes of a type. A
// cursor of another form is not used.
const cursorForm = 1

// cursorState is what a cursor holds.
type cursorState struct {
	// Form is cursorForm. Of names what the links are links of: the endpoint, the
	// tenant, and all that the catalog says of the type.
	Form int    `json:"form"`
	Of   string `json:"of"`
	// Links are generations of delta links, the oldest first: one link for each of
	// the catalog's delta queries. A reading follows all of them, so that it sees once
	// more what the one before saw: a change that reached the directory's replicas
	// late is not missed, as long as it is not later than a whole sync.
	Links [][]string `json:"links"`
	// Items are the ids of all items, each with the fingerprint of the children that
	// delta queries do not cover.
	Items map[string]string `json:"items"`
}

// generations is how many generations of links a cursor keeps.
const generations = 2

// digest names what a cursor is of.
func (s *Source) digest(t *catalog.Type) (string, error) {
	entry, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("naming a configuration type: %w", err)
	}
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(s.endpoint.String()), []byte(s.config.DirectoryID), entry} {
		sum.Write(part)
		sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (s *Source) encodeCursor(t *catalog.Type, state cursorState) (port.Cursor, error) {
	var err error
	state.Form = cursorForm
	if state.Of, err = s.digest(t); err != nil {
		return nil, err
	}
	content, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("writing a cursor: %w", err)
	}
	return content, nil
}

// decodeCursor returns what a cursor holds, and false when it is none that this
// source could have made for the type as it is now.
func (s *Source) decodeCursor(t *catalog.Type, cursor port.Cursor) (cursorState, bool) {
	var state cursorState
	if len(cursor) == 0 || json.Unmarshal(cursor, &state) != nil {
		return state, false
	}
	digest, err := s.digest(t)
	if err != nil || state.Form != cursorForm || state.Of != digest || len(state.Links) == 0 || state.Items == nil {
		return state, false
	}
	for _, links := range state.Links {
		if len(links) != len(t.Delta.Selects()) {
			return state, false
		}
	}
	return state, true
}

// advance returns the generations of links after a reading that ended at new ones.
func advance(before [][]string, links []string) [][]string {
	all := append(before[:len(before):len(before)], links)
	return all[max(len(all)-generations, 0):]
}
