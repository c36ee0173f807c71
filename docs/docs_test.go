// Package docs has the tests that hold the pages in this folder to the contract.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// contract returns the files of the contract.
func contract() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		understudyv1.File_understudy_v1_auth_failure_proto, understudyv1.File_understudy_v1_error_reason_proto,
		understudyv1.File_understudy_v1_sync_proto, understudyv1.File_understudy_v1_sync_event_proto,
		understudyv1.File_understudy_v1_sync_service_proto,
	}
}

// cells returns the first cell of every row of every table of a page.
func cells(page string) []string {
	var found []string
	for line := range strings.Lines(page) {
		if row, ok := strings.CutPrefix(line, "| "); ok {
			cell, _, _ := strings.Cut(row, " |")
			found = append(found, strings.Trim(cell, "`"))
		}
	}
	return found
}

// Every value of every enumeration is a row of statuses.md, once, and no row names
// a value that does not exist.
func TestStatusesHaveEveryValue(t *testing.T) {
	t.Parallel()
	rows := cells(read(t, "statuses.md"))
	known := make(map[string]bool)
	for _, file := range contract() {
		enums := file.Enums()
		for i := range enums.Len() {
			values := enums.Get(i).Values()
			for j := range values.Len() {
				name := string(values.Get(j).Name())
				known[name] = true
				if n := count(rows, name); n != 1 {
					t.Errorf("statuses.md has %d rows of %s, want 1", n, name)
				}
			}
		}
	}
	if len(known) < 100 {
		t.Fatalf("the contract has %d values: the test does not see them all", len(known))
	}
	value := regexp.MustCompile(`^[A-Z]+(_[A-Z]+)+$`)
	codes := []string{
		"INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION", "OUT_OF_RANGE",
	}
	for _, row := range rows {
		if value.MatchString(row) && !known[row] && !slices.Contains(codes, row) {
			t.Errorf("statuses.md has a row of %s, which does not exist", row)
		}
	}
}

func count(list []string, wanted string) (n int) {
	for _, element := range list {
		if element == wanted {
			n++
		}
	}
	return n
}

// The codes that a page says an error has are those that the contract says.
func TestErrorCodesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	source := read(t, "../proto/understudy/v1/error_reason.proto")
	code := regexp.MustCompile(`\b(?:CANCELLED|INVALID_ARGUMENT|NOT_FOUND|PERMISSION_DENIED|RESOURCE_EXHAUSTED|` +
		`FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNAVAILABLE|INTERNAL|UNAUTHENTICATED)\b`)
	metadata := regexp.MustCompile("`[a-zA-Z]+`")
	rows := make(map[string]string)
	for line := range strings.Lines(read(t, "statuses.md")) {
		if cells := strings.Split(line, "|"); len(cells) == 6 && strings.HasPrefix(line, "| ERROR_REASON_") {
			rows[strings.TrimSpace(cells[1])] = cells[2] + cells[3]
		}
	}
	// A value and the comment before it.
	value := regexp.MustCompile(`(?m)((?:^  //.*\n)+)  (ERROR_REASON_[A-Z_]+) = `)
	matches := value.FindAllStringSubmatch(source, -1)
	if len(matches) != len(understudyv1.ErrorReason_name) {
		t.Fatalf("%d values with comments, want %d", len(matches), len(understudyv1.ErrorReason_name))
	}
	for _, match := range matches {
		comment, name := match[1], match[2]
		for _, wanted := range code.FindAllString(comment, -1) {
			if !strings.Contains(rows[name], wanted) {
				t.Errorf("statuses.md, %s: %q lacks %s", name, rows[name], wanted)
			}
		}
		_, said, _ := strings.Cut(comment, "etadata")
		for _, wanted := range metadata.FindAllString(said, -1) {
			if !strings.Contains(rows[name], wanted) {
				t.Errorf("statuses.md, %s: %q lacks the metadata %s", name, rows[name], wanted)
			}
		}
	}
}

// Every event is a row of events.md, with the kind that the contract gives it.
func TestEventsHaveEveryEvent(t *testing.T) {
	t.Parallel()
	page, source := read(t, "events.md"), read(t, "../proto/understudy/v1/sync_event.proto")
	events := (&understudyv1.SyncEvent{}).ProtoReflect().Descriptor().Oneofs().ByName("event").Fields()
	for i := range events.Len() {
		name := string(events.Get(i).Name())
		kind := regexp.MustCompile(`// (Durable|Ephemeral)\..*\n(?:    //.*\n)*    [A-Za-z]+ ` + name + ` = `).FindStringSubmatch(source)
		if kind == nil {
			t.Fatalf("the contract does not say whether %s is durable", name)
		}
		if want := "| `" + name + "` | " + strings.ToLower(kind[1]) + " |"; strings.Count(page, want) != 1 {
			t.Errorf("events.md has no row %q", want)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

// Links between the pages lead somewhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"entra-application.md", "statuses.md", "events.md"} {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			target, _, _ := strings.Cut(match[1], "#")
			if strings.HasPrefix(target, "https://") {
				continue
			}
			if _, err := os.Stat(filepath.FromSlash(target)); err != nil {
				t.Errorf("%s links %s, which does not exist", page, target)
			}
		}
	}
}
