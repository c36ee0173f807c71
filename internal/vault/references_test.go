package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"understudy.internal/internal/catalog"
)

func TestGUIDs(t *testing.T) {
	for text, ok := range map[string]bool{
		"00000000-0000-0000-0000-000000000000":  true,
		"0123abcd-ef45-6789-abcd-ef0123456789":  true,
		"0123ABCD-ef45-6789-abcd-ef0123456789":  false,
		"0123abcd-ef45-6789-abcd-ef012345678":   false,
		"0123abcd-ef45-6789-abcd-ef01234567890": false,
		"0123abcd-ef45-6789-abcd_ef0123456789":  false,
		"0123abcd-ef45-6789-abcdeef0123456789f": false,
		"0123abcg-ef45-6789-abcd-ef0123456789":  false,
		"0-23abcd-ef45-6789-abcd-ef0123456789":  false,
		"":                                      false,
	} {
		id, got := parseGUID([]byte(text))
		if got != ok || (ok && string(appendGUID(nil, id)) != text) {
			t.Errorf("%q: %v, %s", text, got, appendGUID(nil, id))
		}
	}
}

// FuzzReferences compares what is found in the bytes of a document with what a walk
// through its values finds.
func FuzzReferences(f *testing.F) {
	for _, seed := range []string{
		`{"a":"` + sales + `"}`, `["` + sales + `",{"` + support + `":"` + support + `"}]`, `"` + sales + `"`,
		`{"a":"\"` + sales + `\"","b":"\\","c":"\\\"` + sales + `","d":"` + sales + `\"","e":"` + policyA + `"}`,
		`{"\"` + sales + `":"` + sales + `"}`, `{"a\\":"` + sales + `","b":["x","` + support + `","\\"]}`,
	} {
		f.Add([]byte(seed))
	}
	r, err := newRules(&catalog.Type{}, testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		canonical, err := r.canonical(document)
		if err != nil {
			return
		}
		var value any
		if err := json.Unmarshal(canonical, &value); err != nil {
			return // too deep, or numbers that encoding/json does not take
		}
		var want []string
		walkTexts(value, func(text string) {
			if _, ok := parseGUID([]byte(text)); ok && text != policyA {
				want = append(want, text)
			}
		})
		var got []string
		for _, id := range referencesIn(canonical, policyA) {
			got = append(got, string(appendGUID(nil, id)))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s\nhas %v, found %v", canonical, want, got)
		}
	})
}

func walkTexts(value any, visit func(string)) {
	switch value := value.(type) {
	case string:
		visit(value)
	case []any:
		for _, element := range value {
			walkTexts(element, visit)
		}
	case map[string]any:
		for _, element := range value {
			walkTexts(element, visit)
		}
	}
}

// A spool gives what was written to it, however long it is and in whatever pieces it
// came, beside others in one scratch.
func TestSpool(t *testing.T) {
	s := &scratch{directory: t.TempDir()}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	names := newTable(s)
	spools, want := []*spool{}, [][]byte{}
	for range 3 {
		spools, want = append(spools, &spool{scratch: s}), append(want, nil)
	}
	for i := range 3000 {
		part := bytes.Repeat([]byte{byte(i)}, i*31%700)
		at := i % len(spools)
		want[at] = append(want[at], part...)
		if _, err := spools[at].Write(part); err != nil {
			t.Fatal(err)
		}
		if err := names.add(fmt.Appendf(nil, "%06d", i), []byte("line"), [20]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, one := range spools {
		for range 2 {
			var got bytes.Buffer
			if err := one.writeTo(&got); err != nil || !bytes.Equal(got.Bytes(), want[i]) || one.size() != int64(len(want[i])) {
				t.Errorf("spool %d of %d bytes has %d: %v", i, len(want[i]), got.Len(), err)
			}
		}
	}
	if blob, ok, err := names.find("002999"); err != nil || !ok || blob[0] != byte(2999%256) {
		t.Errorf("the table beside them: %v %v %v", blob, ok, err)
	}
}
