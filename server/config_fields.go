package main

import (
	"reflect"
	"slices"
	"strings"

	"understudy.internal/internal/alike"
)

// fields returns the fields of a section that are keys of the file.
func fields(section reflect.Type) []reflect.StructField {
	var keys []reflect.StructField
	for _, field := range reflect.VisibleFields(section) {
		if field.Tag.Get("yaml") != "" {
			keys = append(keys, field)
		}
	}
	return keys
}

func fieldNamed(section reflect.Type, name string) (reflect.StructField, bool) {
	for _, field := range fields(section) {
		if field.Tag.Get("yaml") == name {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

// unknown adds the problem of a key that a section does not have.
func (d *decoder) unknown(section reflect.Type, key, name string, where place) {
	var names []string
	for _, field := range fields(section) {
		names = append(names, field.Tag.Get("yaml"))
	}
	own := childKey(key, shownKey(name))
	if meant, ok := meantKey(name, names); ok {
		d.meant[childKey(key, meant)] = true
		d.at(where, own, "no key is called so. Did you mean `%s`?", meant)
		return
	}
	d.at(where, own, "no key is called so. Write one of: %s.", strings.Join(names, ", "))
}

// isReported says whether a problem is known of a key, of what it is in, or of
// what is in it: then another check of it says nothing new.
func (d *decoder) isReported(key string) bool {
	return d.meant[key] || slices.ContainsFunc(d.problems, func(p configProblem) bool {
		return p.key == key || within(p.key, key) || within(key, p.key)
	})
}

// within says whether a key is in the section or list of another.
func within(key, outer string) bool {
	rest, ok := strings.CutPrefix(key, outer)
	return ok && rest != "" && outer != "" && (rest[0] == '.' || rest[0] == '[')
}

// maxAlike is the longest key for which one that is alike is looked for.
const maxAlike = 60

// meantKey returns the name that is most like another one, if any is.
func meantKey(name string, names []string) (string, bool) {
	name = strings.ToLower(strings.NewReplacer("-", "_", " ", "_").Replace(name))
	best, least := "", 1+len(name)/3
	for _, other := range names {
		if len(name) > maxAlike {
			break
		}
		edits := alike.Distance(name, other)
		if without := strings.ReplaceAll(other, "_", ""); strings.ReplaceAll(name, "_", "") == without {
			edits = 0 // clientId
		}
		if edits <= least {
			best, least = other, edits-1
		}
	}
	return best, best != ""
}
