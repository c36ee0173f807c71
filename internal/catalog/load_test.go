package catalog

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const good = `- id: entra/a
  display_name: A
  version: v1.0
  path: /as
  kind: collection
  service_principal: [A.Read.All]
`

func TestLoadRefusesMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, detail string
		line         int
	}{
		"unknown key":        {good + "  colour: blue\n", "colour", 7},
		"unknown key, child": {good + "  children:\n    - name: b\n      paht: b\n", "paht", 9},
		"wrong type":         {good + "  top: many\n", "many", 7},
		"repeated key":       {good + "  kind: singleton\n", "kind", 7},
		"not a list":         {"id: entra/a\n", "list of entries", 1},
		"not YAML":           {good + "  user: [\n", "", 8},
		"same id twice":      {good + good, "twice", 7},
		"not sorted":         {strings.ReplaceAll(good, "entra/a", "entra/b") + good, "sorted", 7},
		"other workload":     {strings.ReplaceAll(good, "entra/a", "intune/a"), "workload", 1},
		"id":                 {strings.ReplaceAll(good, "entra/a", "entra/A b"), "kebab", 1},
		"display name":       {strings.ReplaceAll(good, "display_name: A", "display_name: ''"), "display_name", 1},
		"version":            {strings.ReplaceAll(good, "v1.0", "v2.0"), "v1.0 or beta", 1},
		"path, slash":        {strings.ReplaceAll(good, "/as", "as"), "slash", 1},
		"path, traversal":    {strings.ReplaceAll(good, "/as", "/a/../b"), "segment", 1},
		"path, query":        {strings.ReplaceAll(good, "/as", "/as?$top=1"), "segment", 1},
		"path, id":           {strings.ReplaceAll(good, "/as", "/as/{id}/bs"), "no each", 1},
		"kind":               {strings.ReplaceAll(good, "collection", "list"), "collection or singleton", 1},
		"permission":         {strings.ReplaceAll(good, "A.Read.All", "read everything"), "permission name", 1},
		"permission order":   {strings.ReplaceAll(good, "[A.Read.All]", "[B.Read.All, A.Read.All]"), "sorted", 1},
		"nobody":             {strings.ReplaceAll(good, "[A.Read.All]", "[]"), "nobody", 1},
		"select":             {good + "  select: $select=id\n", "bare value", 1},
		"top":                {good + "  top: 5000\n", "1000", 1},
		"header":             {good + "  headers: {consistencylevel: eventual}\n", "spelled", 1},
		"token header":       {good + "  headers: {Authorization: Bearer x}\n", "Authorization", 1},
		"each, nothing":      {strings.ReplaceAll(good, "/as", "/as/{id}/bs") + "  each: {}\n", "path or ids", 1},
		"each, both":         {strings.ReplaceAll(good, "/as", "/as/{id}/bs") + "  each: {path: /as, ids: [x]}\n", "not both", 1},
		"each, no id":        {good + "  each: {path: /as}\n", "needs one {id}", 1},
		"detail, singleton":  {strings.ReplaceAll(good, "collection", "singleton") + "  detail: {}\n", "for collections", 1},
		"single page":        {strings.ReplaceAll(good, "collection", "singleton") + "  single_page: true\n", "for collections", 1},
		"child name":         {good + "  children: [{name: a/b, path: b, kind: singleton}]\n", "property name", 1},
		"child twice":        {good + "  children: [{name: b, path: b, kind: singleton}, {name: b, path: c, kind: singleton}]\n", "twice", 1},
		"child kind":         {good + "  children: [{name: b, path: b}]\n", "collection or singleton", 1},
		"child, absolute":    {good + "  children: [{name: b, path: /bs, kind: singleton}]\n", "needs {id}", 1},
		"child when":         {good + "  children: [{name: b, path: b, kind: singleton, when: [x]}]\n", "#microsoft.graph", 1},
		"volatile":           {good + "  volatile: [a//b]\n", "empty segment", 1},
		"volatile twice":     {good + "  volatile: [a, a]\n", "twice", 1},
		"secret":             {good + "  secrets: ['a*']\n", "asterisk", 1},
		"secret, when":       {good + "  secrets: [{property: a, when: ['microsoft.graph.x']}]\n", "#microsoft.graph", 1},
		"secret, key":        {good + "  secrets:\n    - property: a\n      unless: [x]\n", "unless", 9},
		"secret, no path":    {good + "  secrets: [{when: ['#microsoft.graph.x']}]\n", "empty segment", 1},
		"secret, no type":    {good + "  secrets: [{property: a, when: ['#microsoft.graph.x']}]\n  volatile: ['**/@odata.type']\n", "dropped", 1},
		"secret, list":       {good + "  secrets: [[a]]\n", "", 7},
		"secret twice":       {good + "  secrets: [a, {property: a, when: ['#microsoft.graph.x']}]\n", "twice", 1},
		"array key":          {good + "  arrays: [{path: a, key: '*'}]\n", "one property", 1},
		"payload":            {good + "  payloads: [{property: '**/b', extension: ps1}]\n", "names of letters", 1},
		"payload, wildcard":  {good + "  payloads: [{property: 'a/*', extension: ps1}]\n", "a name last", 1},
		"payload, dot":       {good + "  payloads: [{property: a.b, extension: ps1}]\n", "names of letters", 1},
		"payload, long":      {good + "  payloads: [{property: " + strings.Repeat("a", 61) + ", extension: ps1}]\n", "longer", 1},
		"payload, extension": {good + "  payloads: [{property: a, extension: exe}]\n", "must be one of", 1},
		"payload, json":      {good + "  payloads: [{property: a, extension: json}]\n", "must be one of", 1},
		"payload, file name": {good + "  payloads: [{property: a, extension: ps1, file_name: a/b}]\n", "no property name", 1},
		"payload, when":      {good + "  payloads: [{property: a, extension: ps1, when: [x]}]\n", "#microsoft.graph", 1},
		"payload twice":      {good + "  payloads: [{property: a, extension: ps1}, {property: A, extension: sh}]\n", "another rule", 1},
		"answer, nothing":    {good + "  not_available: [{}]\n", "says nothing", 1},
		"answer, ok":         {good + "  not_available: [{status: 200}]\n", "no error", 1},
		"answer, forbidden":  {good + "  not_available: [{status: 403}]\n", "too little", 1},
		"gate":               {good + "  gate: Conditional Access\n", "kebab", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(fstest.MapFS{"entra.yaml": {Data: []byte(c.text)}})
			var mistake *EntryError
			if !errors.As(err, &mistake) {
				t.Fatalf("%v, want an EntryError", err)
			}
			if mistake.File != "entra.yaml" || mistake.Line != c.line || !strings.Contains(err.Error(), c.detail) {
				t.Errorf("%v\nwant line %d and %q", err, c.line, c.detail)
			}
		})
	}
}

func TestLoadReportsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := load(fstest.MapFS{
		"entra.yaml":  {Data: []byte(good + "  colour: blue\n")},
		"intune.yaml": {Data: []byte(good)},
	})
	if err == nil || !strings.Contains(err.Error(), "entra.yaml:7") || !strings.Contains(err.Error(), "intune.yaml:1") {
		t.Errorf("%v, want both mistakes", err)
	}
}

func TestLoadOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := load(fstest.MapFS{}); err == nil {
		t.Error("a catalog without entries loads")
	}
}

func TestVersionFollowsContent(t *testing.T) {
	t.Parallel()
	version := func(text string) string {
		c, err := load(fstest.MapFS{"entra.yaml": {Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		return c.Version()
	}
	second := strings.ReplaceAll(good, "entra/a", "entra/b")
	if version(good+second) != version(good+"\n# a comment\n"+second) {
		t.Error("comments change the version")
	}
	if version(good) == version(good+"  volatile: [a]\n") {
		t.Error("an entry changes without the version")
	}
}

func TestChildrenWithOneNameForDifferentItems(t *testing.T) {
	t.Parallel()
	const two = good + "  children:\n" +
		"    - {name: b, path: b, kind: singleton, when: ['#microsoft.graph.x']}\n" +
		"    - {name: b, path: c, kind: singleton, when: ['%s']}\n"
	for other, ok := range map[string]bool{"#microsoft.graph.y": true, "#microsoft.graph.x": false} {
		_, err := load(fstest.MapFS{"entra.yaml": {Data: []byte(strings.ReplaceAll(two, "%s", other))}})
		if (err == nil) != ok {
			t.Errorf("second when %s: %v", other, err)
		}
	}
}

func TestPayloadsOfOnePropertyInDifferentObjects(t *testing.T) {
	t.Parallel()
	const two = good + "  payloads:\n" +
		"    - {property: a/*/b, extension: xml, when: ['#microsoft.graph.x']}\n" +
		"    - {property: a/*/b, extension: txt, when: ['%s']}\n"
	for other, ok := range map[string]bool{"#microsoft.graph.y": true, "#microsoft.graph.x": false} {
		_, err := load(fstest.MapFS{"entra.yaml": {Data: []byte(strings.ReplaceAll(two, "%s", other))}})
		if (err == nil) != ok {
			t.Errorf("second when %s: %v", other, err)
		}
	}
}

func TestPayloadExtensions(t *testing.T) {
	t.Parallel()
	if !slices.IsSorted(PayloadExtensions) || slices.Contains(PayloadExtensions, "json") || slices.Contains(PayloadExtensions, "age") {
		t.Errorf("%q: sorted, and without what the vault uses itself", PayloadExtensions)
	}
	for _, extension := range PayloadExtensions {
		if !regexp.MustCompile(`^[a-z0-9]{1,12}$`).MatchString(extension) {
			t.Errorf("%q is no ending", extension)
		}
	}
}
