package vault

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
)

func TestPayloads(t *testing.T) {
	r := mustRules(t, &catalog.Type{
		Secrets: []catalog.SecretRule{{Property: "hidden"}, {Property: "**/password"}},
		Payloads: []catalog.PayloadRule{
			{Property: "script", Extension: "ps1", FileName: "fileName"},
			{Property: "hidden", Extension: "txt"},
			{Property: "settings/*/value", Extension: "xml", FileName: "fileName", When: []string{"#microsoft.graph.omaSettingStringXml", "#microsoft.graph.omaSettingBase64"}},
			{Property: "a/b/c", Extension: "sh"},
			{Property: "outer", Extension: "txt"},
		},
		Arrays: []catalog.ArrayRule{{Path: "settings", Key: "k"}},
	})
	for name, test := range map[string]struct {
		in   string
		want map[string]string
	}{
		"a script":                     {`{"script":"aGVsbG8K"}`, map[string]string{".script.ps1": "hello\n"}},
		"escaped":                      {`{"script":"Pz8\/Pw=="}`, map[string]string{".script.ps1": "????"}},
		"the other alphabet":           {`{"script":"Pz8_Pw=="}`, map[string]string{".script.ps1": "????"}},
		"every byte":                   {`{"script":"//4AAQ0KDQ=="}`, map[string]string{".script.ps1": "\xff\xfe\x00\x01\r\n\r"}},
		"the file's ending":            {`{"script":"aGk=","fileName":"Install.SH"}`, map[string]string{".script.sh": "hi"}},
		"a path":                       {`{"script":"aGk=","fileName":"../../x/y.py"}`, map[string]string{".script.py": "hi"}},
		"an ending that is not known":  {`{"script":"aGk=","fileName":"setup.exe"}`, map[string]string{".script.ps1": "hi"}},
		"an ending that items have":    {`{"script":"aGk=","fileName":"x.json"}`, map[string]string{".script.ps1": "hi"}},
		"the ending of sealed secrets": {`{"script":"aGk=","fileName":"x.age"}`, map[string]string{".script.ps1": "hi"}},
		"an ending and no name":        {`{"script":"aGk=","fileName":".sh"}`, map[string]string{".script.ps1": "hi"}},
		"a file name that is none":     {`{"script":"aGk=","fileName":[".sh"]}`, map[string]string{".script.ps1": "hi"}},
		"not base64":                   {`{"script":"hello world"}`, nil},
		"without padding":              {`{"script":"aGk"}`, nil},
		"cut off":                      {`{"script":"aGVsbG8"}`, nil},
		"no text":                      {`{"script":{"a":"aGk="}}`, nil},
		"null":                         {`{"script":null}`, nil},
		"empty":                        {`{"script":""}`, nil},
		"a secret":                     {`{"hidden":"aGk="}`, nil},
		"within a secret":              {`{"outer":{"password":"aGk="}}`, nil},
		"nested":                       {`{"a":{"b":{"c":"aGk="}}}`, map[string]string{".a-b-c.sh": "hi"}},
		"not so nested":                {`{"a":{"b":"aGk="}}`, nil},
		"an array in the way":          {`{"a":[{"b":{"c":"aGk="}}]}`, nil},
		"an object for an array":       {`{"settings":{"x":{"@odata.type":"#microsoft.graph.omaSettingStringXml","value":"aGk="}}}`, nil},
		"elements, by their place in the file": {
			`{"settings":[{"k":"c","@odata.type":"#microsoft.graph.omaSettingStringXml","value":"aGk="},` +
				`{"k":"a","@odata.type":"#microsoft.graph.omaSettingString","value":"true"},` +
				`{"k":"b","@odata.type":"#microsoft.graph.omaSettingBase64","value":"aGVsbG8K","fileName":"a.txt"}]}`,
			map[string]string{".settings-1-value.txt": "hello\n", ".settings-2-value.xml": "hi"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := r.document([]byte(test.in), wanted{payloads: true})
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]string
			for i, file := range d.payloads {
				if got == nil {
					got = map[string]string{}
				}
				got[file.suffix] = string(file.content)
				if i > 0 && d.payloads[i-1].suffix >= file.suffix {
					t.Errorf("not sorted: %s", file.suffix)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if plain, err := r.canonical([]byte(test.in)); err != nil || string(plain) != string(d.content) {
				t.Errorf("the document itself is another: %v", err)
			}
		})
	}
}

func TestRevealedSecrets(t *testing.T) {
	r := mustRules(t, &catalog.Type{
		Secrets:  []catalog.SecretRule{{Property: "**/key"}, {Property: "outer"}},
		Volatile: []string{"list/*/at"},
		Arrays:   []catalog.ArrayRule{{Path: "list", Key: "n"}},
	})
	for name, test := range map[string]struct{ in, want string }{
		"none":                    {`{"a":1,"key":""}`, ""},
		"one":                     {`{"key":"hunter\u0032"}`, "{\n  \"/key\": \"hunter2\"\n}\n"},
		"names with slash, tilde": {`{"a/b~c":{"key":1}}`, "{\n  \"/a~1b~0c/key\": 1\n}\n"},
		"places in the file":      {`{"list":[{"n":"b","key":"B","at":1},{"n":"a","key":"A"}]}`, "{\n  \"/list/0/key\": \"A\",\n  \"/list/1/key\": \"B\"\n}\n"},
		"secrets within a secret": {`{"outer":{"x":[{"key":"in"}],"at":1}}`, "{\n  \"/outer\": {\n    \"at\": 1,\n    \"x\": [\n      {\n        \"key\": \"in\"\n      }\n    ]\n  }\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := r.document([]byte(test.in), wanted{secrets: true})
			if err != nil {
				t.Fatal(err)
			}
			if string(d.secrets) != test.want {
				t.Errorf("got %q, want %q", d.secrets, test.want)
			}
			if unasked, err := r.document([]byte(test.in), wanted{}); err != nil || unasked.secrets != nil || unasked.hidden != d.hidden {
				t.Errorf("revealed unasked: %v", err)
			}
		})
	}
}

// A secret whose fingerprint by an earlier key is stored keeps it; every other gets
// one by the key of now.
func TestFingerprintsAfterRotation(t *testing.T) {
	configurationType := &catalog.Type{Secrets: []catalog.SecretRule{{Property: "**/key"}}, Arrays: []catalog.ArrayRule{{Path: "list"}}}
	before := mustRules(t, configurationType)
	now, err := newRules(configurationType, []byte("another key that is long enough."))
	if err != nil {
		t.Fatal(err)
	}
	now.previous = [][]byte{[]byte("a third key, older than the rest"), testKey}
	canonical := func(r *rules, document string, stored []byte) string {
		t.Helper()
		d, err := r.document([]byte(document), wanted{stored: fingerprintsIn(stored)})
		if err != nil {
			t.Fatal(err)
		}
		return string(d.content)
	}
	const document = `{"key":"a","list":[{"key":"b"},{"key":"c"}]}`
	stored := canonical(before, document, nil)
	if got := canonical(now, document, []byte(stored)); got != stored {
		t.Errorf("a rotation changed\n%s", cmp.Diff(stored, got))
	}
	if got := canonical(now, document, nil); got == stored {
		t.Error("a new document has fingerprints by an old key")
	}
	// One secret changes: its fingerprint alone is by the new key.
	got := canonical(now, `{"key":"A","list":[{"key":"c"},{"key":"b"}]}`, []byte(stored))
	want := canonical(before, `{"key":"A","list":[{"key":"b"},{"key":"c"}]}`, nil)
	want = strings.Replace(want, before.secret([]byte(`"A"`)), now.secret([]byte(`"A"`)), 1)
	if got != want {
		t.Error(cmp.Diff(want, got))
	}
	// Next time that is stored, and stays.
	if again := canonical(now, `{"key":"A","list":[{"key":"b"},{"key":"c"}]}`, []byte(got)); again != got {
		t.Error(cmp.Diff(got, again))
	}
	// Without the old keys the rotation is finished.
	now.previous = nil
	if got := canonical(now, document, []byte(stored)); got != canonical(now, document, nil) {
		t.Error("a fingerprint by a key that is not known any more stays")
	}
}
