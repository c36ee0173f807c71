package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// indexEntry is one item in `_index.json`.
type indexEntry struct {
	ID          string `json:"id"`
	DisplayName string `json:"display_name,omitempty"`
	File        string `json:"file"`
}

// encodeIndex returns `_index.json`: the items, ordered by file, one a line, so
// that a difference is one line.
func encodeIndex(items map[string]stagedItem) ([]byte, error) {
	out := []byte("[")
	for i, name := range slices.Sorted(maps.Keys(items)) {
		line, err := json.Marshal(indexEntry{ID: items[name].id, DisplayName: items[name].displayName, File: name})
		if err != nil {
			return nil, fmt.Errorf("encoding an index: %w", err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, "\n"+indentation...), line...)
	}
	if len(items) > 0 {
		out = append(out, '\n')
	}
	return append(out, "]\n"...), nil
}

// readIndex returns what the last commit says of the items of a type: file → item.
func (s *staging) readIndex(staged *stagedType) (map[string]stagedItem, error) {
	id, ok := staged.before[indexFile]
	if !ok {
		return nil, nil
	}
	return indexOf(s.storage, id)
}

func indexOf(storage *filesystem.Storage, id plumbing.Hash) (_ map[string]stagedItem, err error) {
	blob, err := object.GetBlob(storage, id)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	reader, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	content, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	var entries []indexEntry
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil, fmt.Errorf("an index of the last commit is not usable: %w", err)
	}
	items := make(map[string]stagedItem, len(entries))
	for _, e := range entries {
		items[e.File] = stagedItem{id: e.ID, displayName: e.DisplayName}
	}
	return items, nil
}
