package graph

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWithMembers(t *testing.T) {
	for name, test := range map[string]struct{ object, want string }{
		"empty":   {`{ }`, `{"a":1,"b":[2]}`},
		"spaces":  {"{\"x\":1\n}", `{"x":1,"a":1,"b":[2]}`},
		"clash":   {`{"a":"old","x":{"a":1},"b":2}`, `{"x":{"a":1},"a":1,"b":[2]}`},
		"escaped": {`{"\u0061":"old","\u0078":1}`, `{"x":1,"a":1,"b":[2]}`},
		"only":    {`{"a":0}`, `{"a":1,"b":[2]}`},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := newReader([]byte(test.object)).entry(&keys{id: "id", children: []string{"a", "b"}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := withMembers(e, []member{{"a", []byte("1")}, {"b", []byte("[2]")}})
			if diff := cmp.Diff(test.want, string(got)); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

// An item's properties survive, byte by byte, and the result has no name twice.
func TestWithMembersProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "id", "ü", `"`, "\\", "c d", ""}), 0, 6, rapid.ID[string]).Draw(t, "names")
		object := map[string]json.RawMessage{}
		for _, name := range names {
			object[name] = json.RawMessage(rapid.SampledFrom([]string{`1.0`, `"x"`, `{"a":{}}`, `[]`, `1e400`}).Draw(t, "value"))
		}
		encoded, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		e, err := newReader(encoded).entry(&keys{id: "id", children: []string{"a", "b"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := withMembers(e, []member{{"a", []byte("true")}, {"b", []byte("false")}})
		if err != nil || !jsontext.Value(got).IsValid() {
			t.Fatal(err, string(got))
		}
		var back map[string]json.RawMessage
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		object["a"], object["b"] = json.RawMessage("true"), json.RawMessage("false")
		if diff := cmp.Diff(object, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParsePage(f *testing.F) {
	for _, seed := range []string{
		things(3), `{"value":[{"id":"a","name":"n","c":[]}],"@odata.nextLink":"https://x"}`, `{"value":[{"id":1e2}]} `,
		`{"value":[`, `{"value":null}`, `{"\u0076alue":[]}`, "{\"value\":[{\"id\":\"\\ud800\"}]}", `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		p, err := parsePage(data, &keys{id: "id", names: []string{"displayName", "name"}, children: []string{"c"}})
		if !bytes.Equal(before, data) {
			t.Fatal("the parser changed its input")
		}
		if err != nil {
			return
		}
		if !jsontext.Value(data).IsValid() {
			t.Fatal("an invalid document was accepted")
		}
		for _, e := range p.entries {
			if !bytes.Contains(data, e.raw) || jsontext.Value(e.raw).Kind() != '{' {
				t.Fatalf("not a part of the document: %q", e.raw)
			}
			out, err := withMembers(e, []member{{"c", []byte("1")}})
			if err != nil || !jsontext.Value(out).IsValid() {
				t.Fatalf("%v: %q", err, out)
			}
		}
	})
}

func FuzzParseBatch(f *testing.F) {
	for _, seed := range []string{
		`{"responses":[{"id":"0","status":200,"headers":{"A":"b"},"body":{"value":[]}}]}`,
		`{"responses":[{"id":"1","status":429,"headers":{"Retry-After":7},"body":null},{"id":"0","status":404}]}`,
		`{"responses":[{"id":"0","status":1e2}]}`, `{"responses":{}}`, `{`, `{"responses":[{"id":"00","status":200}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		answers, err := parseBatch(data, 2)
		if err != nil {
			return
		}
		for _, a := range answers {
			if a == nil {
				continue
			}
			if a.status < 100 || a.status > 599 || !bytes.Contains(data, a.body) {
				t.Fatalf("%+v", a)
			}
			parseError(a.body)
		}
	})
}
