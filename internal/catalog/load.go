package catalog

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed types/*.yaml
var entries embed.FS

// Catalog is the set of configuration types. It does not change after loading
// and may be used at the same time.
type Catalog struct {
	types   []*Type
	byID    map[string]*Type
	version string
	// excluded are the types that Narrow took out.
	excluded []*Type
}

// EntryError says what is wrong with a catalog file.
type EntryError struct {
	// File is the name of the file, Line the line in it, from 1; 0 when the file
	// as a whole is wrong.
	File string
	Line int
	// Entry is the id of the entry, if it has one.
	Entry string
	// Detail says what is wrong and what to write instead.
	Detail string
}

// Error implements error.
func (e *EntryError) Error() string {
	if e.Entry == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Detail)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Entry, e.Detail)
}

// Load loads the configuration types that this service knows. It fails only
// when the embedded files are wrong, with one [*EntryError] for every mistake,
// joined.
func Load() (*Catalog, error) {
	files, err := fs.Sub(entries, "types")
	if err != nil {
		return nil, fmt.Errorf("opening the catalog: %w", err)
	}
	return load(files)
}

// load loads every YAML file at the root of a file system. Each is a list of
// entries of the workload that the file is named after.
func load(files fs.FS) (*Catalog, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing the catalog: %w", err)
	}
	catalog := &Catalog{byID: make(map[string]*Type)}
	var mistakes []error
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading the catalog: %w", err)
		}
		mistakes = append(mistakes, catalog.add(name, text)...)
	}
	if len(catalog.types) == 0 && len(mistakes) == 0 {
		mistakes = append(mistakes, errors.New("the catalog has no entries"))
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	slices.SortFunc(catalog.types, func(a, b *Type) int { return cmp.Compare(a.ID, b.ID) })
	content, err := json.Marshal(catalog.types) // maps are written in the order of their keys
	if err != nil {
		return nil, fmt.Errorf("hashing the catalog: %w", err)
	}
	sum := sha256.Sum256(content)
	catalog.version = hex.EncodeToString(sum[:6])
	return catalog, nil
}

// add takes in the entries of one file and returns the mistakes in it.
func (c *Catalog) add(file string, text []byte) []error {
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		return atLines(file, "", err)
	}
	root := &document
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind != yaml.SequenceNode {
		return []error{&EntryError{File: file, Line: root.Line, Detail: "a catalog file is a list of entries"}}
	}
	workload := strings.TrimSuffix(path.Base(file), ".yaml")
	var mistakes []error
	before := ""
	for _, node := range root.Content {
		t := &Type{}
		if err := node.Load(t, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
			mistakes = append(mistakes, atLines(file, t.ID, err)...)
			continue
		}
		problems := check(t, workload)
		if _, ok := c.byID[t.ID]; ok {
			problems = append(problems, "the id occurs twice")
		} else if t.ID < before {
			problems = append(problems, "it comes after "+before+": entries are sorted by id, so that one is found")
		}
		before = max(before, t.ID)
		for _, problem := range problems {
			mistakes = append(mistakes, &EntryError{File: file, Line: node.Line, Entry: t.ID, Detail: problem})
		}
		c.byID[t.ID] = t
		c.types = append(c.types, t)
	}
	return mistakes
}

// atLines turns an error of the YAML library into errors with a line each.
func atLines(file, id string, err error) []error {
	var several *yaml.LoadErrors
	if errors.As(err, &several) {
		out := make([]error, 0, len(several.Errors))
		for _, one := range several.Errors {
			out = append(out, &EntryError{File: file, Line: one.Mark.Line, Entry: id, Detail: one.Message})
		}
		return out
	}
	var one *yaml.LoadError
	if errors.As(err, &one) {
		return []error{&EntryError{File: file, Line: one.Mark.Line, Entry: id, Detail: one.Message}}
	}
	return []error{&EntryError{File: file, Entry: id, Detail: err.Error()}}
}

// Types returns all configuration types, ordered by id. The slice is the
// caller's, the types are shared and must not be changed.
func (c *Catalog) Types() []*Type { return slices.Clone(c.types) }

// Get returns the configuration type with an id.
func (c *Catalog) Get(id string) (*Type, bool) {
	t, ok := c.byID[id]
	return t, ok
}

// Version identifies the content of the catalog: 12 hexadecimal digits that
// change with any entry, and with nothing else.
func (c *Catalog) Version() string { return c.version }
