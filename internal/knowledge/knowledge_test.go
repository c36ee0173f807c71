package knowledge_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/knowledge"
	"understudy.internal/internal/port"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

var readers = port.Readers{ServicePrincipal: "application", User: "user"}

func lessons(answers ...any) map[string]port.Lesson {
	all := map[string]port.Lesson{}
	for i := 0; i < len(answers); i += 2 {
		all[answers[i].(string)] = port.Lesson{Answer: answers[i+1].(port.ProbeAnswer), Filter: "id eq '1'", Readers: readers, Time: noon}
	}
	return all
}

func learn(t *testing.T, f *knowledge.File, version string, l map[string]port.Lesson) {
	t.Helper()
	if err := f.Learn(version, l); err != nil {
		t.Fatal(err)
	}
}

// TestLearn: lessons add up, outlive the process, and hold for one version of the
// catalog only.
func TestLearn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "repositories", "contoso.learned.json")
	f := knowledge.Open(path, nil)
	if got := f.Lessons("v1"); len(got) != 0 {
		t.Errorf("something is known before anything was learned: %v", got)
	}
	learn(t, f, "v1", lessons("print/settings", port.ProbeEqual, "print/printers", port.ProbeEqual))
	learn(t, f, "v1", lessons("print/settings", port.ProbeRefused, "entra/terms-of-use", port.ProbeDifferent))
	want := lessons("print/settings", port.ProbeRefused, "print/printers", port.ProbeEqual, "entra/terms-of-use", port.ProbeDifferent)
	for name, known := range map[string]*knowledge.File{"the same process": f, "the next process": knowledge.Open(path, nil)} {
		if diff := cmp.Diff(want, known.Lessons("v1")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := known.Lessons("v2"); len(got) != 0 {
			t.Errorf("%s: known of another version: %v", name, got)
		}
	}
	f.Lessons("v1")["print/settings"] = port.Lesson{} // the caller's own
	if diff := cmp.Diff(want, f.Lessons("v1")); diff != "" {
		t.Errorf("a caller changed what is known:\n%s", diff)
	}

	learn(t, f, "v2", lessons("print/settings", port.ProbeEqual))
	if diff := cmp.Diff(lessons("print/settings", port.ProbeEqual), knowledge.Open(path, nil).Lessons("v2")); diff != "" {
		t.Errorf("after another version (-want +got):\n%s", diff)
	}
	if got := knowledge.Open(path, nil).Lessons("v1"); len(got) != 0 {
		t.Errorf("the old version is still known: %v", got)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v (%v), want the file alone", entries, err)
	}
}

// TestBefore: a file of a version that did not note whose answers were compared can be
// read; its lessons are nobody's.
func TestBefore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "learned.json")
	text := `{"catalog_version":"v1","lessons":{"print/settings":{"answer":"EQUAL","time":"2026-01-02T12:00:00Z"}}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]port.Lesson{"print/settings": {Answer: port.ProbeEqual, Time: noon}}
	if diff := cmp.Diff(want, knowledge.Open(path, nil).Lessons("v1")); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
}

// TestReader: an identity has one name, however it is spelled, and no other has it.
func TestReader(t *testing.T) {
	t.Parallel()
	name := knowledge.Reader("D1", "C1", "Backup@contoso.example")
	if got := knowledge.Reader("d1", "c1", "backup@Contoso.example"); got != name {
		t.Errorf("another case is another name: %s, %s", got, name)
	}
	if strings.Contains(name, "backup") {
		t.Errorf("the name says whose it is: %s", name)
	}
	for _, other := range [][3]string{
		{"d2", "c1", "backup@contoso.example"}, {"d1", "c2", "backup@contoso.example"}, {"d1", "c1", ""}, {"d1c1", "", "backup@contoso.example"},
	} {
		if got := knowledge.Reader(other[0], other[1], other[2]); got == name {
			t.Errorf("%v has the same name", other)
		}
	}
}

// TestUnreadable: a file that is not whole is forgotten with a warning, once, and
// written anew.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":             "",
		"cut":               `{"catalog_version":"v1","lessons":{"print/set`,
		"not JSON":          "\x00\x00\x00",
		"something after":   `{"catalog_version":"v1","lessons":{}} {}`,
		"an unknown field":  `{"catalog_version":"v1","lessons":{},"more":1}`,
		"an unknown answer": `{"catalog_version":"v1","lessons":{"print/settings":{"answer":"MAYBE","time":"2026-01-02T12:00:00Z"}}}`,
		"too large":         `{"catalog_version":"v1","lessons":{}}` + strings.Repeat(" ", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "learned.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			f := knowledge.Open(path, slog.New(slog.NewTextHandler(&log, nil)))
			if got := f.Lessons("v1"); len(got) != 0 {
				t.Errorf("known: %v", got)
			}
			f.Lessons("v1")
			if got := strings.Count(log.String(), "level=WARN"); got != 1 {
				t.Errorf("%d warnings, want 1:\n%s", got, log.String())
			}
			learn(t, f, "v1", lessons("print/settings", port.ProbeEqual))
			if got := knowledge.Open(path, nil).Lessons("v1"); len(got) != 1 {
				t.Errorf("known after it was written anew: %v", got)
			}
		})
	}
}

// TestCannotWrite: what cannot be stored is a StorageError, and true as long as the
// process lives.
func TestCannotWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a-file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := knowledge.Open(filepath.Join(file, "learned.json"), nil)
	err := f.Learn("v1", lessons("print/settings", port.ProbeEqual))
	if storage := (*port.StorageError)(nil); !errors.As(err, &storage) {
		t.Errorf("Learn: %v, want a StorageError", err)
	}
	if got := f.Lessons("v1"); len(got) != 1 {
		t.Errorf("known: %v", got)
	}
}

func FuzzUnreadable(f *testing.F) {
	f.Add([]byte(`{"catalog_version":"v1","lessons":{"print/settings":{"answer":"EQUAL","time":"2026-01-02T12:00:00Z"}}}`))
	f.Add([]byte(`{"catalog_version":"v1","lessons":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "learned.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for id, lesson := range knowledge.Open(path, nil).Lessons("v1") {
			switch lesson.Answer {
			case port.ProbeEqual, port.ProbeDifferent, port.ProbeRefused:
			default:
				t.Errorf("%s: the answer %q", id, lesson.Answer)
			}
		}
	})
}
