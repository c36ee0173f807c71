package coverage

import (
	_ "embed" // for the explanations
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

//go:embed coverage.yaml
var explanationsText string

// explanation says where something is read that no path shows, or why it is not.
type explanation struct {
	Path      string   `yaml:"path"`
	Namespace string   `yaml:"namespace"`
	Types     []string `yaml:"types"`
	Why       string   `yaml:"why"`
}

// explanations is coverage.yaml.
type explanations struct {
	APIs       map[string]string `yaml:"apis"`
	Namespaces map[string]string `yaml:"namespaces"`
	Paths      []explanation     `yaml:"paths"`
	References []explanation     `yaml:"references"`
}

func parseExplanations(text string) (*explanations, error) {
	e := &explanations{}
	if err := yaml.Load([]byte(text), e, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
		return nil, fmt.Errorf("reading coverage.yaml: %w", err)
	}
	return e, nil
}

// finding is what became of one row of the facts.
type finding struct {
	// types read it; empty: nothing does.
	types []string
	// why is said where a path does not say it.
	why string
}

// explainer finds rows and remembers which explanations were needed.
type explainer struct {
	catalog *catalog.Catalog
	reads   reads
	texts   *explanations
	unused  map[string]bool
	wrong   []error
}

func newExplainer(c *catalog.Catalog, texts *explanations) *explainer {
	x := &explainer{catalog: c, reads: readsOf(c.Types()), texts: texts, unused: make(map[string]bool)}
	for name := range texts.APIs {
		x.unused["api "+name] = true
	}
	for name := range texts.Namespaces {
		x.unused["namespace "+name] = true
	}
	for _, e := range slices.Concat(texts.Paths, texts.References) {
		x.unused[e.name()] = true
		for _, id := range e.Types {
			if _, ok := c.Get(id); !ok {
				x.fail("%s names the type %s, which does not exist", e.name(), id)
			}
		}
		if e.Why == "" {
			x.fail("%s has no why", e.name())
		}
	}
	return x
}

func (e explanation) name() string {
	if e.Namespace != "" {
		return "reference " + e.Namespace
	}
	return "path " + facts.Normalize(e.Path)
}

func (x *explainer) fail(format string, arguments ...any) {
	x.wrong = append(x.wrong, fmt.Errorf("coverage.yaml: "+format, arguments...))
}

// peer says what became of a request of a peer.
func (x *explainer) peer(p facts.PeerEndpoint) finding {
	if !p.Graph() {
		return x.named("api", p.Version, x.texts.APIs)
	}
	if types := x.reads.covering(p.Path, filterOf(p.Query)); types != nil {
		return finding{types: types}
	}
	return x.listed(explanation{Path: p.Path}, x.texts.Paths)
}

// filterOf returns the `$filter` of a peer's query; its options are joined by `; `.
func filterOf(query string) string {
	for option := range strings.SplitSeq(query, "; ") {
		if filter, ok := strings.CutPrefix(option, "$filter="); ok {
			return filter
		}
	}
	return ""
}

// reference says what became of a configuration of the reference product.
func (x *explainer) reference(r facts.ReferenceConfiguration) finding {
	api, _, _ := strings.Cut(r.Namespace, ":")
	if api != "MSGraph" {
		return x.named("namespace", api, x.texts.Namespaces)
	}
	if types := x.reads.named(r.Namespace); types != nil {
		return finding{types: types}
	}
	return x.listed(explanation{Namespace: r.Namespace}, x.texts.References)
}

func (x *explainer) named(kind, name string, texts map[string]string) finding {
	why, ok := texts[name]
	if !ok {
		x.fail("the %s %s is not explained", kind, name)
	}
	delete(x.unused, kind+" "+name)
	return finding{why: why}
}

func (x *explainer) listed(wanted explanation, texts []explanation) finding {
	for _, e := range texts {
		if e.name() == wanted.name() {
			delete(x.unused, e.name())
			return finding{types: e.Types, why: e.Why}
		}
	}
	x.fail("the %s is read by no type, or not all of it, and not explained", wanted.name())
	return finding{}
}

// err returns what is wrong with the explanations, after all rows were found.
func (x *explainer) err() error {
	for _, name := range slices.Sorted(maps.Keys(x.unused)) {
		x.fail("%s explains nothing: remove it", name)
	}
	return errors.Join(x.wrong...)
}
