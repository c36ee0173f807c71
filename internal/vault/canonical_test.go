package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

func mustRules(t testing.TB, configurationType *catalog.Type) *rules {
	t.Helper()
	r, err := newRules(configurationType, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fingerprintOf is what the tests expect in place of a secret.
func fingerprintOf(canonical string) string {
	return (&rules{key: testKey}).secret([]byte(canonical))
}

func TestCanonical(t *testing.T) {
	deep := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	for name, test := range map[string]struct {
		rules catalog.Type
		in    string
		want  string
	}{
		"names are sorted":           {in: `{"b":1,"a":{"d":2,"c":3}}`, want: "{\n  \"a\": {\n    \"c\": 3,\n    \"d\": 2\n  },\n  \"b\": 1\n}\n"},
		"upper case sorts first":     {in: `{"a":1,"B":2}`, want: "{\n  \"B\": 2,\n  \"a\": 1\n}\n"},
		"empty containers":           {in: ` { "a" : [ ] , "b" : { } } `, want: "{\n  \"a\": [],\n  \"b\": {}\n}\n"},
		"numbers stay as sent":       {in: `[1.10,1e400,-0,9007199254740993,1E5,0.1e-7]`, want: "[\n  1.10,\n  1e400,\n  -0,\n  9007199254740993,\n  1E5,\n  0.1e-7\n]\n"},
		"literals":                   {in: `[null,true,false]`, want: "[\n  null,\n  true,\n  false\n]\n"},
		"one spelling of strings":    {in: `["\u0061\/","<&>","\u2028","\ud83d\ude00","\n\u0000\u001f"]`, want: "[\n  \"a/\",\n  \"<&>\",\n  \"\u2028\",\n  \"\U0001F600\",\n  \"\\n\\u0000\\u001f\"\n]\n"},
		"escaped names sort decoded": {in: `{"\u0062":1,"a":2}`, want: "{\n  \"a\": 2,\n  \"b\": 1\n}\n"},
		"a scalar is a document":     {in: `"x"`, want: "\"x\"\n"},
		"arrays keep their order":    {in: `[3,1,2]`, want: "[\n  3,\n  1,\n  2\n]\n"},
		"as deep as allowed":         {in: deep, want: ""},
		"volatile is dropped": {
			rules: catalog.Type{Volatile: []string{"modified", "**/version", "list/*/etag"}},
			in:    `{"modified":1,"keep":{"modified":2,"version":3},"version":4,"list":[{"etag":1,"a":2},{"version":9}]}`,
			want:  "{\n  \"keep\": {\n    \"modified\": 2\n  },\n  \"list\": [\n    {\n      \"a\": 2\n    },\n    {}\n  ]\n}\n",
		},
		"annotations of properties are dropped, but for types": {
			in:   `{"a@odata.context":"https://graph/$metadata","a":[{"b@odata.nextLink":"x","b@odata.type":"#t","@odata.type":"#u"}],"c@d":1}`,
			want: "{\n  \"a\": [\n    {\n      \"@odata.type\": \"#u\",\n      \"b@odata.type\": \"#t\"\n    }\n  ],\n  \"c@d\": 1\n}\n",
		},
		"wildcards stand for properties and elements": {
			rules: catalog.Type{Volatile: []string{"a/*/x"}},
			in:    `{"a":{"p":{"x":1,"y":2},"q":[{"x":3}]}}`,
			want:  "{\n  \"a\": {\n    \"p\": {\n      \"y\": 2\n    },\n    \"q\": [\n      {\n        \"x\": 3\n      }\n    ]\n  }\n}\n",
		},
		"arrays without order": {
			rules: catalog.Type{Arrays: []catalog.ArrayRule{{Path: "byKey", Key: "k/n"}, {Path: "byBytes"}, {Path: "**/deep"}}},
			in:    `{"byKey":[{"k":{"n":"b"}},{"x":0},{"k":{"n":"a"},"z":1},{"k":{"n":"a"},"y":1}],"byBytes":["b","a",1],"x":{"deep":[2,1]}}`,
			want: "{\n  \"byBytes\": [\n    \"a\",\n    \"b\",\n    1\n  ],\n  \"byKey\": [\n    {\n      \"x\": 0\n    },\n    {\n      \"k\": {\n        \"n\": \"a\"\n      },\n      \"y\": 1\n    },\n" +
				"    {\n      \"k\": {\n        \"n\": \"a\"\n      },\n      \"z\": 1\n    },\n    {\n      \"k\": {\n        \"n\": \"b\"\n      }\n    }\n  ],\n  \"x\": {\n    \"deep\": [\n      1,\n      2\n    ]\n  }\n}\n",
		},
		"secrets are hidden, nothing is not": {
			rules: catalog.Type{Secrets: []catalog.SecretRule{{Property: "**/secret"}}},
			in:    `{"a":{"secret":"p\u0061ss"},"secret":{"y":1,"x":2},"n":[{"secret":null},{"secret":""},{"secret":[]},{"secret":0}]}`,
			want: "{\n  \"a\": {\n    \"secret\": \"" + fingerprintOf(`"pass"`) + "\"\n  },\n  \"n\": [\n    {\n      \"secret\": null\n    },\n    {\n      \"secret\": \"\"\n    },\n    {\n      \"secret\": []\n    },\n    {\n      \"secret\": \"" +
				fingerprintOf("0") + "\"\n    }\n  ],\n  \"secret\": \"" + fingerprintOf("{\n  \"x\": 2,\n  \"y\": 1\n}") + "\"\n}\n",
		},
		"dropping wins over hiding, hiding over order": {
			rules: catalog.Type{Volatile: []string{"a"}, Secrets: []catalog.SecretRule{{Property: "*"}}, Arrays: []catalog.ArrayRule{{Path: "b"}}},
			in:    `{"a":1,"b":[2]}`,
			want:  "{\n  \"b\": \"" + fingerprintOf("[\n  2\n]") + "\"\n}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := mustRules(t, &test.rules)
			got, err := r.canonical([]byte(test.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); test.want != "" && diff != "" {
				t.Error(diff)
			}
			again, err := mustRules(t, &catalog.Type{}).canonical(got)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("not stable: %v\n%s", err, again)
			}
		})
	}
}

func TestCanonicalRefuses(t *testing.T) {
	const marker = "MARKER"
	r := mustRules(t, &catalog.Type{Volatile: []string{"volatile"}})
	for name, in := range map[string]string{
		"nothing":                  ``,
		"spaces":                   `  `,
		"cut off":                  `{"MARKER":"MARKER`,
		"cut off after a name":     `{"MARKER"`,
		"duplicate name":           `{"MARKER":1,"MARKER":2}`,
		"duplicate escaped name":   `{"MARKER":1,"\u004dARKER":2}`,
		"duplicate volatile name":  `{"volatile":"MARKER","volatile":2}`,
		"nested duplicate":         `[{"a":{"MARKER":1,"b":2,"MARKER":1}}]`,
		"broken UTF-8":             "\"MARKER\xff\"",
		"broken UTF-8 in a name":   "{\"MARKER\xff\":1}",
		"lone surrogate":           `"MARKER\ud800"`,
		"two documents":            `{} {"MARKER":1}`,
		"trailing comma":           `["MARKER",]`,
		"a comment":                `/*MARKER*/{}`,
		"a number as a name":       `{1:"MARKER"}`,
		"a leading zero":           `01`,
		"NaN":                      `NaN`,
		"control character":        "\"MARKER\x01\"",
		"single quotes":            `'MARKER'`,
		"byte order mark":          "\ufeff{}",
		"too deep":                 strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2),
		"closed by the wrong kind": `["MARKER"}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.canonical([]byte(in))
			var item *port.ItemError
			if !errors.As(err, &item) {
				t.Fatalf("got %q, %v", got, err)
			}
			if strings.Contains(err.Error(), marker) {
				t.Errorf("the error holds content: %v", err)
			}
		})
	}
	if _, err := r.canonical(make([]byte, maxDocument+1)); err == nil {
		t.Error("a document that is too large is taken")
	}
}

// The rules of every type compile, to a small automaton.
func TestCatalogCompiles(t *testing.T) {
	t.Parallel()
	loaded, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, configurationType := range loaded.Types() {
		mustRules(t, configurationType)
	}
}

func TestFingerprint(t *testing.T) {
	secretive := &catalog.Type{Secrets: []catalog.SecretRule{{Property: "key"}}}
	one := mustRules(t, secretive)
	other, err := newRules(secretive, []byte("another key that is long enough."))
	if err != nil {
		t.Fatal(err)
	}
	get := func(r *rules, document string) string {
		t.Helper()
		out, err := r.canonical([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Key string }
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		return got.Key
	}
	a := get(one, `{"key":"hunter2"}`)
	if a != get(one, `{"key":"hunter\u0032"}`) {
		t.Error("the same secret has two fingerprints")
	}
	if a == get(one, `{"key":"hunter3"}`) {
		t.Error("two secrets have one fingerprint")
	}
	rotated := get(other, `{"key":"hunter2"}`)
	keyOf := func(text string) string { return strings.Split(text, ":")[1] }
	if a == rotated || keyOf(a) == keyOf(rotated) {
		t.Errorf("the fingerprints of two keys cannot be told apart: %s %s", a, rotated)
	}
	if !strings.HasPrefix(a, fingerprintPrefix) || strings.Contains(a, "hunter") {
		t.Errorf("not a fingerprint: %s", a)
	}
}

// shuffle writes a document anew, its members in another order.
func shuffle(random *rand.Rand, document []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return appendShuffled(random, nil, value)
}

func appendShuffled(random *rand.Rand, out []byte, value any) (_ []byte, err error) {
	switch value := value.(type) {
	case map[string]any:
		names := sortedKeys(value)
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		out = append(out, '{')
		for i, name := range names {
			if i > 0 {
				out = append(out, ',')
			}
			text, err := json.Marshal(name)
			if err != nil {
				return nil, err
			}
			if out, err = appendShuffled(random, append(append(out, text...), ':'), value[name]); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	case []any:
		out = append(out, '[')
		for i, element := range value {
			if i > 0 {
				out = append(out, ' ', ',')
			}
			if out, err = appendShuffled(random, out, element); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	}
	text, err := json.Marshal(value)
	return append(out, text...), err
}

// numbersOf returns the numbers of a document as they stand there, in the order of
// sorted names.
func numbersOf(value any) []string {
	var numbers []string
	switch value := value.(type) {
	case json.Number:
		return []string{value.String()}
	case map[string]any:
		for _, name := range sortedKeys(value) {
			numbers = append(numbers, numbersOf(value[name])...)
		}
	case []any:
		for _, element := range value {
			numbers = append(numbers, numbersOf(element)...)
		}
	}
	return numbers
}

func decodeNumbers(t *testing.T, document []byte) []string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("encoding/json does not read what was accepted: %v\n%s", err, document)
	}
	return numbersOf(value)
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[1.10,1e400,-0,9007199254740993]`, `{"b":{"d":[1,{"z":null,"y":true}]},"a":"\u00e9\n"}`,
		`{"\u0061":1,"b":"\ud83d\ude00","":[]}`, `"x"`, `{"a":1,"a":2}`, "\"\xff\"", `[[[[`, `{"secret":{"a":[1,2]},"volatile":3,"list":[3,2,1]}`,
	} {
		f.Add([]byte(seed), uint64(7))
	}
	plain, err := newRules(&catalog.Type{}, testKey)
	if err != nil {
		f.Fatal(err)
	}
	ruled, err := newRules(&catalog.Type{
		Volatile: []string{"**/volatile"}, Secrets: []catalog.SecretRule{{Property: "**/secret"}}, Arrays: []catalog.ArrayRule{{Path: "**/list"}},
	}, testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, document []byte, seed uint64) {
		got, err := plain.canonical(document)
		if err != nil {
			if item := (*port.ItemError)(nil); !errors.As(err, &item) {
				t.Fatalf("not an ItemError: %v", err)
			}
			return
		}
		if again, err := plain.canonical(got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("not idempotent: %v\n%s\n%s", err, got, again)
		}
		if diff := cmp.Diff(decodeNumbers(t, document), decodeNumbers(t, got)); diff != "" {
			t.Fatalf("numbers changed: %s", diff)
		}
		other, err := shuffle(rand.New(rand.NewPCG(seed, 1)), document)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*rules{plain, ruled} {
			a, aErr := r.canonical(document)
			b, bErr := r.canonical(other)
			if aErr != nil || bErr != nil || !bytes.Equal(a, b) {
				t.Fatalf("shuffled members give other bytes: %v %v\n%s\n%s", aErr, bErr, a, b)
			}
		}
	})
}
