package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"understudy.internal/internal/tenant"
)

// place is a position in a file, from 1.
type place struct{ line, column int }

// decoder fills a configuration from the nodes of a file. It is stricter than the
// YAML library: every value has the type that its key wants, and nothing is
// guessed. It goes on after a problem, so that one run finds all.
type decoder struct {
	file string
	// places has the position of every value, by its key.
	places map[string]place
	// meant has the keys that a misspelled one stands for.
	meant    map[string]bool
	problems []configProblem
	// secrets and files are what the file refers to.
	secrets []reference
	files   []reference
}

// reference is something outside of the file that the file names.
type reference struct {
	key    string
	path   string
	secret *tenant.Secret
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, places: map[string]place{}, meant: map[string]bool{}}
}

func (d *decoder) at(where place, key, format string, v ...any) {
	d.problems = append(d.problems, configProblem{place: where, file: d.file, key: key, detail: fmt.Sprintf(format, v...)})
}

// wrong adds a problem with the value of a key.
func (d *decoder) wrong(key, format string, v ...any) { d.at(d.placeOf(key), key, format, v...) }

// placeOf returns the position of a key's value, or of the section that lacks it.
func (d *decoder) placeOf(key string) place {
	for {
		if found, ok := d.places[key]; ok {
			return found
		}
		if key == "" {
			return place{1, 1}
		}
		key = parentKey(key)
	}
}

// parentKey returns the key of the section or list that has a key.
func parentKey(key string) string {
	return key[:max(strings.LastIndexAny(key, ".["), 0)]
}

func childKey(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

var (
	secretType  = reflect.TypeFor[tenant.Secret]()
	filtersType = reflect.TypeFor[tenant.Filters]()
)

// decode fills a value from a node. Tag is that of the field, for paths.
func (d *decoder) decode(node *yaml.Node, into reflect.Value, key string, tag reflect.StructTag) {
	if _, ok := d.places[key]; !ok {
		d.places[key] = place{node.Line, node.Column}
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	if into.Type() == secretType {
		d.decodeSecret(node, into.Addr().Interface().(*tenant.Secret), key)
		return
	}
	if !d.isPlain(node, into, key) {
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		d.decodeStruct(node, into, key)
	case reflect.Map:
		d.decodeMap(node, into, key)
	case reflect.Slice:
		d.decodeList(node, into, key)
	default:
		d.decodeScalar(node, into, key, tag)
	}
}

// isPlain refuses what YAML can say and a configuration need not: references, tags
// and nothing; and a node of another kind than the value's.
func (d *decoder) isPlain(node *yaml.Node, into reflect.Value, key string) bool {
	want, kind := "a value", yaml.ScalarNode
	switch into.Kind() {
	case reflect.Struct, reflect.Map:
		want, kind = "a section of keys, each with a value", yaml.MappingNode
	case reflect.Slice:
		want, kind = "a list", yaml.SequenceNode
	}
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.wrong(key, "anchors and references (`&`, `*`) are not supported. Write the value out; a text that begins so needs quotes.")
	case node.Style&yaml.TaggedStyle != 0:
		d.wrong(key, "tags (`!`) are not supported. Write the value without; a text that begins so needs quotes.")
	case node.ShortTag() == "!!null":
		d.wrong(key, "is empty. Write %s, or leave the key out.", want)
	case node.Kind != kind:
		d.wrong(key, "is %s. Write %s.", kindName(node.Kind), want)
	default:
		return true
	}
	return false
}

func kindName(kind yaml.Kind) string {
	switch kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// pairs calls each for every key of a section, its value and where the key is;
// duplicates and keys that are no text are problems.
func (d *decoder) pairs(node *yaml.Node, key string, each func(name string, where place, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		where := place{name.Line, name.Column}
		switch {
		case name.ShortTag() == "!!merge":
			d.at(where, key, "merge keys (`<<`) are not supported. Write the keys out.")
			continue
		case name.Kind != yaml.ScalarNode || name.ShortTag() != "!!str" || name.Anchor != "" || name.Style&yaml.TaggedStyle != 0:
			d.at(where, key, "a key that is not a text. Write a name, in quotes if it looks like a number.")
			continue
		}
		if line, ok := seen[name.Value]; ok {
			d.at(where, childKey(key, shownKey(name.Value)), "stands in line %d already. Write it once.", line)
			continue
		}
		seen[name.Value] = name.Line
		each(name.Value, where, value)
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,39}$`)

// shownKey returns a key of the file for messages, unless it is no name at all.
func shownKey(name string) string {
	if plainKey.MatchString(name) || typePattern.MatchString(name) {
		return name
	}
	return "…"
}

func (d *decoder) decodeStruct(node *yaml.Node, into reflect.Value, key string) {
	names := map[string]bool{}
	d.pairs(node, key, func(name string, where place, value *yaml.Node) {
		field, ok := fieldNamed(into.Type(), name)
		if !ok {
			d.unknown(into.Type(), key, name, where)
			return
		}
		names[name] = true
		d.decode(value, into.FieldByIndex(field.Index), childKey(key, name), field.Tag)
	})
	for _, field := range fields(into.Type()) {
		if name := field.Tag.Get("yaml"); !names[name] {
			d.absent(field, into.FieldByIndex(field.Index), childKey(key, name))
		}
	}
}

// absent gives a field that the file does not have its default, or says that the
// file must have it.
func (d *decoder) absent(field reflect.StructField, into reflect.Value, key string) {
	if example, ok := field.Tag.Lookup("required"); ok {
		if !d.isReported(key) {
			d.wrong(key, "is missing. Write, for example, `%s: %s`.", field.Tag.Get("yaml"), example)
		}
		return
	}
	if text := field.Tag.Get("default"); text != "" {
		var document yaml.Node
		if err := yaml.Load([]byte(text), &document); err != nil {
			panic("default of " + key + ": " + err.Error()) // a constant of this program
		}
		d.decodeDefault(document.Content[0], into, key, field.Tag)
		return
	}
	if into.Kind() == reflect.Struct {
		for _, inner := range fields(into.Type()) {
			d.absent(inner, into.FieldByIndex(inner.Index), childKey(key, inner.Tag.Get("yaml")))
		}
	}
}

// decodeDefault decodes a default, whose position is in no file.
func (d *decoder) decodeDefault(node *yaml.Node, into reflect.Value, key string, tag reflect.StructTag) {
	inner := newDecoder(d.file)
	inner.decode(node, into, key, tag)
	if len(inner.problems) > 0 {
		panic("default of " + key + ": " + joinProblems(inner.problems, "; ")) // a constant of this program
	}
}

func (d *decoder) decodeMap(node *yaml.Node, into reflect.Value, key string) {
	into.Set(reflect.MakeMap(into.Type()))
	pattern, advice := namePattern, "is not a name. Write lower-case letters, digits and hyphens, at most 63, and no hyphen at either end."
	if into.Type() == filtersType {
		pattern, advice = typePattern, "is not a configuration type. Write the id of one, for example `entra/groups`."
	}
	d.pairs(node, key, func(name string, where place, value *yaml.Node) {
		element, own := reflect.New(into.Type().Elem()).Elem(), childKey(key, shownKey(name))
		if !pattern.MatchString(name) {
			d.at(where, own, "%s", advice)
			return
		}
		d.decode(value, element, own, "")
		into.SetMapIndex(reflect.ValueOf(name), element)
	})
}

// namePattern is that of the names in the file: like {tenant} in the contract.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// typePattern is what may name a configuration type; whether it does is checked
// with the catalog.
var typePattern = regexp.MustCompile(`^[a-z0-9-]{1,40}/[a-z0-9*-]{1,80}$`)

func (d *decoder) decodeList(node *yaml.Node, into reflect.Value, key string) {
	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))
	for i, element := range node.Content {
		d.decode(element, into.Index(i), fmt.Sprintf("%s[%d]", key, i), "")
	}
}

// resolve returns a path of the file as one from the working directory.
func (d *decoder) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.file), path)
}
