package catalog

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParsePropertyPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"version":                      {"version"},
		"settings/*/value":             {"settings", "*", "value"},
		"**/version":                   {"**", "version"},
		"a/**/b":                       {"a", "**", "b"},
		"conditions/users/*":           {"conditions", "users", "*"},
		"**/@odata.etag":               {"**", "@odata.etag"},
		"extension_12_attr":            {"extension_12_attr"},
		"a@odata.bind":                 {"a@odata.bind"},
		"":                             nil,
		"/a":                           nil,
		"a/":                           nil,
		"a//b":                         nil,
		"a*":                           nil,
		"a/***/b":                      nil,
		"a/**":                         nil,
		"**":                           nil,
		"**/**/a":                      nil,
		"a b":                          nil,
		"a\x00b":                       nil,
		"a/\u200bb":                    nil,
		"\xff":                         nil,
		strings.Repeat("a/", 16) + "a": nil,
	} {
		got, err := ParsePropertyPath(text)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParsePropertyPath(%q) (-want +got):\n%s", text, diff)
		}
		var bad *PropertyPathError
		if (want == nil) != errors.As(err, &bad) {
			t.Errorf("ParsePropertyPath(%q): %v", text, err)
		}
	}
}

func FuzzParsePropertyPath(f *testing.F) {
	for _, seed := range []string{"a", "a/*/b", "**/a", "a/**/b", "", "a//b", "**/**/a", "a*", "\xff", "@odata.type"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		segments, err := ParsePropertyPath(text)
		if err != nil {
			var bad *PropertyPathError
			if segments != nil || !errors.As(err, &bad) || bad.Path != text {
				t.Fatalf("ParsePropertyPath(%q) = %q, %v", text, segments, err)
			}
			return
		}
		if strings.Join(segments, "/") != text || !utf8.ValidString(text) {
			t.Fatalf("ParsePropertyPath(%q) = %q: not the same path", text, segments)
		}
		for i, segment := range segments {
			wild := segment == AnyOne || segment == AnyDepth
			if segment == "" || !wild && strings.ContainsAny(segment, "*/ \t\n") {
				t.Fatalf("ParsePropertyPath(%q) has the segment %q", text, segment)
			}
			if segment == AnyDepth && (i == len(segments)-1 || segments[i+1] == AnyDepth) {
				t.Fatalf("ParsePropertyPath(%q): ** at %d says nothing", text, i)
			}
		}
	})
}
