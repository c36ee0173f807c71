package vault

import (
	"strings"
	"testing"
)

// hostile are ids that file systems, Git or people trip over.
var hostile = []string{
	"", ".", "..", "../../x", "../x", "/etc/passwd", `..\..\x`, `C:\x`, "a/b", "a\x00b", "\x00", "CON", "con", "con.txt", "NUL", "nul.", "COM1", "com¹",
	"lpt9.json", "aux", "CONIN$", ".git", ".GIT", ".git/hooks/x", "git~1", "GIT~1", ".gitmodules", ".gitattributes", "gitmod~1", "a.", "a ", " a", "a..",
	"_index", "_index.json", "_INDEX", "coverage", "-rf", "--upload-pack=x", "a:b", "a*b", "a?b", "a|b", "<script>", "a\nb", "a\r", "a\tb", "a\x1b[31m",
	"\u202egnp.exe", "\u200b", "\ufeffa", "e\u0301", "\u00e9", "\u212a", "k", "K", "ı", "İ", "i", "I", "ß", "ẞ", "Foo", "foo", "FOO", "~", "~a", "a~", "a~b",
	"\xff", "\xff\xfe", "%2e%2e%2f", "%00", "😀", strings.Repeat("a", maxName), strings.Repeat("a", maxName+1), strings.Repeat("a", 1000),
	strings.Repeat("é", 1000), strings.Repeat("../", 333) + "x", "singleton", "22222222-2222-4222-8222-222222222222", "a_b", "a__b", "a-b", "a.json", "a",
	"$(rm -rf)", "`x`", "'", `"`, "a&b", "a;b", "a=b", "a+b", "a,b", "a@b.example", "YWJj", "ywjj", "desktop.ini", "a.lock", "HEAD", "head",
}

func checkName(t *testing.T, id, name string) {
	t.Helper()
	file := name + fileEnding
	switch {
	case name == "" || len(file) > 200:
		t.Errorf("%q: bad length of %q", id, name)
	case strings.HasPrefix(name, "."), strings.HasSuffix(name, "."), strings.HasPrefix(name, " "), strings.HasSuffix(name, " "):
		t.Errorf("%q: bad ends of %q", id, name)
	case reserved(name):
		t.Errorf("%q: %q is reserved", id, name)
	case file == indexFile:
		t.Errorf("%q: the index", id)
	}
	for i := range len(name) {
		if !allowed(name[i]) && name[i] != '~' {
			t.Errorf("%q: %q has the byte %#x", id, name, name[i])
		}
	}
}

func TestSafeName(t *testing.T) {
	seen := map[string]string{}
	ids := hostile
	for _, id := range hostile { // what looks like the escaped name of another
		ids = append(ids, SafeName(id), SafeName(SafeName(id)+"x"))
	}
	for _, id := range ids {
		name := SafeName(id)
		checkName(t, id, name)
		folded := strings.ToLower(name)
		if other, ok := seen[folded]; ok && other != id {
			t.Errorf("%q and %q have one name, %q", id, other, name)
		}
		seen[folded] = id
	}
}

func TestSafeNameKeeps(t *testing.T) {
	for _, id := range []string{"a", "singleton", "22222222-2222-4222-8222-222222222222", "a_b.c-d", "0", strings.Repeat("a", maxName), "a.lock", "-rf"} {
		if got := SafeName(id); got != id {
			t.Errorf("SafeName(%q) = %q", id, got)
		}
	}
	for id, begin := range map[string]string{"Foo": "Foo~", "../../x": "x~", "CON": "_CON~", ".git/hooks/x": "git_hooks_x~", "é": "~", "a b": "a_b~"} {
		if got := SafeName(id); !strings.HasPrefix(got, begin) || len(got) != len(begin)+32 {
			t.Errorf("SafeName(%q) = %q", id, got)
		}
	}
}

func FuzzSafeName(f *testing.F) {
	for i, id := range hostile {
		f.Add(id, hostile[(i+1)%len(hostile)])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		nameA, nameB := SafeName(a), SafeName(b)
		checkName(t, a, nameA)
		if a != b && strings.EqualFold(nameA, nameB) {
			t.Errorf("%q and %q have one name, %q", a, b, nameA)
		}
		if nameA != SafeName(a) {
			t.Errorf("%q has two names", a)
		}
		if strings.ContainsRune(nameA, '~') && SafeName(nameA) == nameA {
			t.Errorf("%q, the escaped name of %q, is the name of itself, too", nameA, a)
		}
	})
}
