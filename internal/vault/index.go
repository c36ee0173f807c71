package vault

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// indexEntry is one item in `_index.json`.
type indexEntry struct {
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	File        string `json:"file"`
}

// encodeIndex returns `_index.json`: the items, ordered by file, one a line, so
// that a difference is one line. names are the files, sorted. Ids and display names
// are UTF-8.
func encodeIndex(names []string, items map[string]indexed) []byte {
	out := append(make([]byte, 0, 4+len(items)*128), '[')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendLine(append(out, '\n'), name, items[name])
	}
	if len(items) > 0 {
		out = append(out, '\n')
	}
	return append(out, "]\n"...)
}

// appendLine appends what the index says of one item.
func appendLine(out []byte, name string, item indexed) []byte {
	out = appendString(append(out, lineBegin...), item.id)
	if item.displayName != "" {
		out = appendString(append(out, `,"display_name":`...), item.displayName)
	}
	return append(appendString(append(out, lineFile...), name), '}')
}

// indexed is what an index says of an item.
type indexed struct{ id, displayName string }

// indexSize is how long the index of a table is, and writeIndex writes it.
func indexSize(items *table) int64 {
	size := int64(len("[]\n")) + items.lineBytes
	if n := int64(items.len()); n > 0 {
		size += n*int64(len("\n")) + (n-1)*int64(len(",")) + int64(len("\n"))
	}
	return size
}

// writeIndex gives each line to visit, too.
func writeIndex(w io.Writer, items *table, visit func(line []byte) error) error {
	var out []byte
	separator := "[\n"
	err := items.eachLine(func(line []byte) error {
		out = append(append(out[:0], separator...), line...)
		separator = ",\n"
		if _, err := w.Write(out); err != nil {
			return err
		}
		return visit(line)
	})
	if err != nil {
		return err
	}
	end := "\n]\n"
	if items.len() == 0 {
		end = "[]\n"
	}
	_, err = io.WriteString(w, end)
	return err
}

// How the lines of an index are built. No string of JSON holds lineFile: a quote in
// a string has a backslash before it.
const (
	lineBegin = indentation + `{"id":`
	lineFile  = `,"file":`
	lineEnd   = `"}`
)

func appendString(out []byte, text string) []byte {
	out, _ = jsontext.AppendQuote(out, text) // fails for broken UTF-8 only
	return out
}

// indexOf returns what an index says: file → item without content. An index that
// somebody broke by hand says nothing; the next complete reading mends it.
func indexOf(storage *store, id plumbing.Hash) (map[string]indexed, error) {
	content, err := readBlob(storage, id)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	return decodeIndex(content), nil
}

func decodeIndex(content []byte) map[string]indexed {
	var entries []indexEntry
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil
	}
	items := make(map[string]indexed, len(entries))
	for _, e := range entries {
		items[e.File] = indexed{id: e.ID, displayName: e.DisplayName}
	}
	return items
}

func readBlob(storage storer.EncodedObjectStorer, id plumbing.Hash) (_ []byte, err error) {
	blob, err := object.GetBlob(storage, id)
	if err != nil {
		return nil, err
	}
	reader, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	return io.ReadAll(reader)
}
