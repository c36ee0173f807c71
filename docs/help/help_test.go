package help

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/facts"
	"understudy.internal/internal/identity"
)

//go:generate go test -run ^TestCodes$|^TestReadme$ -update .

var update = flag.Bool("update", false, "write the lists of codes and README.md instead of comparing them")

// headings are the sections that the page of every AuthFailureReason has, in this
// order.
var headings = []string{
	"What happened", "What is safe", "Who mends it", "How to mend it", "How to see that it is mended", "Codes", "More",
}

// values returns the names of an enumeration without UNSPECIFIED.
func values(enum protoreflect.Enum) []string {
	var names []string
	descriptors := enum.Descriptor().Values()
	for i := range descriptors.Len() {
		if v := descriptors.Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	return names
}

func reasons() []understudyv1.AuthFailureReason {
	var all []understudyv1.AuthFailureReason
	for number := range understudyv1.AuthFailureReason_name {
		if number != 0 {
			all = append(all, understudyv1.AuthFailureReason(number))
		}
	}
	slices.Sort(all)
	return all
}

func sectionHeadings(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			found = append(found, strings.TrimSpace(heading))
		}
	}
	return found
}

func TestEveryReasonHasAPage(t *testing.T) {
	t.Parallel()
	want := []string{Errors, Configurations, States}
	for _, reason := range reasons() {
		name := identity.HelpPage(reason)
		want = append(want, name)
		text, ok := Page(name)
		if !ok {
			t.Errorf("%s has no page %s.md", reason, name)
			continue
		}
		if diff := gocmp.Diff(headings, sectionHeadings(text)); diff != "" {
			t.Errorf("%s.md, headings (-want +got):\n%s", name, diff)
		}
		if !strings.Contains(text, "\nReason: `"+reason.String()+"`.\n") {
			t.Errorf("%s.md does not name its reason", name)
		}
		if summary := Summary(text); summary == "" || len(summary) > 110 || !strings.HasSuffix(summary, ".") {
			t.Errorf("%s.md begins with %q, want one short sentence", name, summary)
		}
		for _, heading := range headings {
			if section, _ := Section(name, heading); len(section) < len(heading)+20 {
				t.Errorf("%s.md: %s says nothing", name, heading)
			}
		}
		if !strings.Contains(text, "(https://learn.microsoft.com/") {
			t.Errorf("%s.md links no page of Microsoft", name)
		}
	}
	slices.Sort(want)
	if diff := gocmp.Diff(want, Names()); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

// The sentence that users know asks to exclude the user from the policy. The pages
// that it leads to offer the safer ways first.
func TestExclusionIsTheLastWay(t *testing.T) {
	t.Parallel()
	section, _ := Section("conditional-access-blocked", "How to mend it")
	order := []string{"**Meet the policy", "**The browser sign-in", "**A trusted location", "**A policy of its own", "**Exclude the user"}
	last := -1
	for _, way := range order {
		at := strings.Index(section, way)
		if at <= last {
			t.Fatalf("%s is missing or out of order", way)
		}
		last = at
	}
	timeout, _ := Section("sign-in-timed-out", "What happened")
	if !strings.Contains(timeout, "in truth be a block") {
		t.Error("the page of a timeout does not say that it may be a block")
	}
}

func TestEveryValueHasASection(t *testing.T) {
	t.Parallel()
	for page, enums := range map[string][]protoreflect.Enum{
		Errors:         {understudyv1.ErrorReason(0)},
		Configurations: {understudyv1.ConfigurationFailureReason(0)},
		States:         {understudyv1.SyncState(0), understudyv1.PartialCause(0), understudyv1.ConfigurationOutcome(0)},
	} {
		text, _ := Page(page)
		var all []string
		for _, enum := range enums {
			all = append(all, values(enum)...)
		}
		got := sectionHeadings(text)
		if page == States { // in the order of a sync, not of the numbers
			slices.Sort(all)
			slices.Sort(got)
		}
		if diff := gocmp.Diff(all, got); diff != "" {
			t.Errorf("%s.md, sections (-want +got):\n%s", page, diff)
		}
		for _, value := range all {
			section, ok := Section(page, value)
			if summary := Summary(section); !ok || summary == "" || len(section) < 150 {
				t.Errorf("%s.md: %s says nothing: %q", page, value, section)
			}
		}
	}
}

// codeTable reads the table of internal/identity: which codes lead to which page.
func codeTable(t *testing.T) map[string][]int {
	t.Helper()
	text, err := os.ReadFile("../../internal/identity/codes.tsv")
	if err != nil {
		t.Fatal(err)
	}
	pages := make(map[string][]int)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, "\t")
		number, err := strconv.Atoi(cells[0])
		if err != nil || len(cells) < 2 {
			t.Fatalf("codes.tsv: %q", line)
		}
		page := strings.ReplaceAll(strings.ToLower(cells[1]), "_", "-")
		pages[page] = append(pages[page], number)
	}
	return pages
}

var (
	officialName = regexp.MustCompile(`^[A-Za-z0-9]+$`)
	confidence   = regexp.MustCompile(`\.? (LOW|MEDIUM) CONFIDENCE$`)
)

// codeList is the section of a page about its codes.
func codeList(t *testing.T, numbers []int) string {
	t.Helper()
	rows, err := facts.SignInCodes()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[int]facts.SignInCode)
	for _, row := range rows {
		if number, ok := row.Number(); ok {
			known[number] = row
		}
	}
	if len(numbers) == 0 {
		return "No code of Entra leads here; other layers of the answer do.\n"
	}
	slices.SortFunc(numbers, func(a, b int) int { return cmp.Compare(strconv.Itoa(a), strconv.Itoa(b)) })
	var b strings.Builder
	b.WriteString("These codes of Entra lead here. An unknown code can lead here too.\n\n")
	for _, number := range numbers {
		row, ok := known[number]
		if !ok {
			t.Errorf("AADSTS%d is not in the facts", number)
		}
		fmt.Fprintf(&b, "- `AADSTS%d`", number)
		if officialName.MatchString(row.OfficialName) {
			b.WriteString(" " + row.OfficialName)
		}
		meaning := row.Meaning
		if confidence.MatchString(meaning) {
			meaning = confidence.ReplaceAllString(meaning, "") + " (not documented by Microsoft)"
		}
		b.WriteString(": " + meaning + "\n")
	}
	return b.String()
}

func TestCodes(t *testing.T) {
	t.Parallel()
	table := codeTable(t)
	for _, name := range Names() {
		numbers := table[name]
		delete(table, name)
		text, _ := Page(name)
		before, rest, ok := strings.Cut(text, "\n## Codes\n\n")
		if !ok {
			continue
		}
		_, after, _ := strings.Cut(rest, "## More")
		want := before + "\n## Codes\n\n" + codeList(t, numbers) + "\n## More" + after
		if *update {
			if err := os.WriteFile(name+".md", []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := gocmp.Diff(text, want); diff != "" {
			t.Errorf("%s.md is stale; run make generate (-page +table):\n%s", name, diff)
		}
		for _, number := range numbers {
			if page, _ := CodePage(strconv.Itoa(number)); page != name {
				t.Errorf("CodePage(%d) = %q, want %s", number, page, name)
			}
		}
	}
	if len(table) > 0 {
		t.Errorf("codes lead to pages that do not exist: %v", table)
	}
}

// The list for readers of the repository.
func TestReadme(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("<!-- Written by docs/help; run make generate. -->\n\n# Help\n\n" +
		"One page for each reason why an identity of a tenant has no access, named as the address in\n" +
		"`AuthFailure.help_uri` ends; and three pages for everything else. `understudy help` has the\n" +
		"same pages without a network. To publish them, serve each under its name without `.md`\n" +
		"and set `help_base_url` of the server.\n\n| page | |\n|---|---|\n")
	for _, name := range Names() {
		text, _ := Page(name)
		fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", name, name, Summary(text))
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	current, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(current), b.String()); diff != "" {
		t.Errorf("README.md is stale; run make generate (-page +pages):\n%s", diff)
	}
}

var link = regexp.MustCompile(`\]\(([^)]+)\)`)

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, name := range append(Names(), readme) {
		text, err := os.ReadFile(name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			target := match[1]
			if strings.HasPrefix(target, "https://learn.microsoft.com/") {
				if strings.Contains(target, "/en-us/") {
					t.Errorf("%s.md: %s forces a language", name, target)
				}
				continue
			}
			if page, ok := strings.CutSuffix(target, ".md"); !ok || !slices.Contains(Names(), page) {
				t.Errorf("%s.md links %s, which is no page", name, target)
			}
		}
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasSuffix(line, " ") || strings.Contains(line, "\t") {
				t.Errorf("%s.md:%d: white space at the end, or a tab", name, i+1)
			}
		}
	}
}
