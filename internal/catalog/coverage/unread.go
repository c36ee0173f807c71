package coverage

import (
	_ "embed" // for the reasons
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"understudy.internal/internal/facts"
)

//go:embed unread.yaml
var unreadText string

// unread is unread.yaml: why configuration is not read, and what is read in part.
type unread struct {
	Reasons []reason `yaml:"reasons"`
	Limits  []limit  `yaml:"limits"`
}

// reason says why paths are not read.
type reason struct {
	Why   string   `yaml:"why"`
	Paths []string `yaml:"paths"`
	// matched is how many paths of the facts the reason is for.
	matched int
}

// limit says what of some types is not read.
type limit struct {
	Types []string `yaml:"types"`
	What  string   `yaml:"what"`
}

func parseUnread(text string) (*unread, error) {
	u := &unread{}
	if err := yaml.Load([]byte(text), u, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
		return nil, fmt.Errorf("reading unread.yaml: %w", err)
	}
	return u, nil
}

// documented counts the configuration paths of the facts and those of them that the
// catalog reads, and gives every other one its reason. It fails when one has none or
// two, and when a pattern matches a path that is read, or none.
func (x *explainer) documented(endpoints []facts.Endpoint, u *unread) (configuration, read int, err error) {
	var wrong []error
	fail := func(format string, arguments ...any) {
		wrong = append(wrong, fmt.Errorf("unread.yaml: "+format, arguments...))
	}
	used := make(map[string]bool)
	for _, e := range endpoints {
		if e.Class != facts.ClassConfig {
			continue
		}
		configuration++
		types := x.reads.find(e.Path)
		if types != nil {
			read++
		}
		given := 0
		for i := range u.Reasons {
			pattern := u.Reasons[i].pattern(e.Path)
			if pattern == "" {
				continue
			}
			given++
			used[pattern] = true
			u.Reasons[i].matched++
			if types != nil {
				fail("%s matches %s, which %s reads", pattern, e.Path, types[0])
			}
		}
		if types == nil && given != 1 {
			fail("%s %s is not read and has %d reasons, want one", e.Version, e.Path, given)
		}
	}
	for _, r := range u.Reasons {
		if r.Why == "" {
			fail("a reason says nothing: %v", r.Paths)
		}
		for _, pattern := range r.Paths {
			if !used[pattern] {
				fail("%s matches nothing: remove it", pattern)
			}
		}
	}
	for _, l := range u.Limits {
		for _, id := range l.Types {
			if _, ok := x.catalog.Get(id); !ok {
				fail("a limit names the type %s, which does not exist", id)
			}
		}
		if l.What == "" || len(l.Types) == 0 {
			fail("a limit says nothing: %v", l.Types)
		}
	}
	return configuration, read, errors.Join(wrong...)
}

// pattern returns the first pattern of a reason that matches a path, or nothing.
func (r *reason) pattern(path string) string {
	segments := strings.Split(facts.Normalize(path), "/")
	i := slices.IndexFunc(r.Paths, func(p string) bool {
		return matches(strings.Split(facts.Normalize(p), "/"), segments)
	})
	if i < 0 {
		return ""
	}
	return r.Paths[i]
}

// matches says whether the segments of a path have a pattern.
func matches(pattern, segments []string) bool {
	if len(pattern) == 0 {
		return len(segments) == 0
	}
	if pattern[0] == "**" {
		return matches(pattern[1:], segments) || len(segments) > 0 && matches(pattern, segments[1:])
	}
	if len(segments) == 0 {
		return false
	}
	same, err := path.Match(pattern[0], segments[0])
	return err == nil && same && matches(pattern[1:], segments[1:])
}

// table writes the reasons and the limits as sections of the page.
func (u *unread) table() string {
	var b strings.Builder
	b.WriteString(unreadHead)
	for _, r := range u.Reasons {
		fmt.Fprintf(&b, "| %s | %d | `%s` |\n", cell(r.Why), r.matched, strings.Join(r.Paths, "`<br>`"))
	}
	b.WriteString(limitsHead)
	for _, l := range u.Limits {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.Join(l.Types, "`<br>`"), cell(l.What))
	}
	return b.String()
}
