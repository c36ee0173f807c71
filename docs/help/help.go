// Package help holds the help pages: what happened, what is safe, who mends it and
// how, for everything that this service reports.
//
// There is one page for each AuthFailureReason, named as the address in
// `help_uri` ends (`conditional-access-blocked`), and pages with a section for each
// value: `errors` (ErrorReason), `configurations-not-backed-up`
// (ConfigurationFailureReason) and `states` (SyncState, PartialCause, ConfigurationOutcome).
// They are Markdown, written to be read as they are.
package help

import (
	"embed"
	"slices"
	"strings"
	"sync"
)

//go:embed *.md
var files embed.FS

// The pages that have a section for each value of an enumeration.
const (
	Errors         = "errors"
	Configurations = "configurations-not-backed-up"
	States         = "states"
)

// readme is the list of the pages, for readers of the repository.
const readme = "README"

// Names returns the names of the pages, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // the root of embedded files can always be read
	}
	var names []string
	for _, entry := range entries {
		if name := strings.TrimSuffix(entry.Name(), ".md"); name != readme {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Page returns the text of a page.
func Page(name string) (string, bool) {
	if name == readme {
		return "", false
	}
	text, err := files.ReadFile(name + ".md")
	return string(text), err == nil
}

// Section returns a section of a page with its heading, up to the next heading of
// the same level.
func Section(page, heading string) (string, bool) {
	text, ok := Page(page)
	if !ok {
		return "", false
	}
	_, rest, ok := strings.Cut(text, "\n## "+heading+"\n")
	if !ok {
		return "", false
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return "## " + heading + "\n" + strings.TrimRight(body, "\n") + "\n", true
}

// Summary returns the first sentence of a page or section, in one line.
func Summary(text string) string {
	_, rest, _ := strings.Cut(text, "\n\n")
	paragraph, _, _ := strings.Cut(rest, "\n\n")
	sentence, _, more := strings.Cut(strings.Join(strings.Fields(paragraph), " "), ". ")
	if more {
		sentence += "."
	}
	return sentence
}

// CodePage returns the name of the page that an AADSTS code leads to. The code is
// the number alone.
func CodePage(code string) (string, bool) {
	name, ok := codes()[code]
	return name, ok
}

// codes finds the page of each code, in the lists of the pages.
var codes = sync.OnceValue(func() map[string]string {
	pages := make(map[string]string)
	for _, name := range Names() {
		section, _ := Section(name, "Codes")
		for line := range strings.Lines(section) {
			if rest, ok := strings.CutPrefix(line, "- `AADSTS"); ok {
				code, _, _ := strings.Cut(rest, "`")
				pages[code] = name
			}
		}
	}
	return pages
})
