package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
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
func encodeIndex(names []string, items map[string]stagedItem) []byte {
	out := append(make([]byte, 0, 4+len(items)*128), '[')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '\n')
		item := items[name]
		if item.line != nil {
			out = append(out, item.line...)
			continue
		}
		out = appendString(append(out, lineBegin...), item.id)
		if item.displayName != "" {
			out = appendString(append(out, `,"display_name":`...), item.displayName)
		}
		out = append(appendString(append(out, lineFile...), name), '}')
	}
	if len(items) > 0 {
		out = append(out, '\n')
	}
	return append(out, "]\n"...)
}

// How the lines of an index are built. No string of JSON holds lineFile: a quote in
// a string has a backslash before it.
const (
	lineBegin = indentation + `{"id":`
	lineFile  = `,"file":`
	lineEnd   = `"}`
)

// indexLines returns the lines of an index by file, as items of which nothing is
// known but the line. It returns false for an index that encodeIndex did not write.
func indexLines(content []byte) (map[string]stagedItem, bool) {
	body, begins := bytes.CutPrefix(content, []byte("[\n"))
	body, ends := bytes.CutSuffix(body, []byte("\n]\n"))
	if !begins || !ends {
		return nil, string(content) == "[]\n"
	}
	lines := bytes.Split(body, []byte(",\n"))
	items := make(map[string]stagedItem, len(lines))
	for _, line := range lines {
		at := bytes.LastIndex(line, []byte(lineFile+`"`))
		if at < 0 || !bytes.HasPrefix(line, []byte(lineBegin+`"`)) || !bytes.HasSuffix(line, []byte(lineEnd)) {
			return nil, false
		}
		begin, end := at+len(lineFile)+1, len(line)-len(lineEnd)
		if begin > end {
			return nil, false
		}
		items[string(line[begin:end])] = stagedItem{line: line}
	}
	return items, true
}

func appendString(out []byte, text string) []byte {
	out, _ = jsontext.AppendQuote(out, text) // fails for broken UTF-8 only
	return out
}

// indexOf returns what an index says: file → item without content. An index that
// somebody broke by hand says nothing; the next complete reading mends it.
func indexOf(storage *filesystem.Storage, id plumbing.Hash) (map[string]stagedItem, error) {
	content, err := readBlob(storage, id)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	return decodeIndex(content), nil
}

func decodeIndex(content []byte) map[string]stagedItem {
	var entries []indexEntry
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil
	}
	items := make(map[string]stagedItem, len(entries))
	for _, e := range entries {
		items[e.File] = stagedItem{id: e.ID, displayName: e.DisplayName}
	}
	return items
}

func readBlob(storage *filesystem.Storage, id plumbing.Hash) (_ []byte, err error) {
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
