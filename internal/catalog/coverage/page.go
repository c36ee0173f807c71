package coverage

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

// tables are the facts that the catalog is compared with.
type tables struct {
	endpoints []facts.Endpoint
	peers     []facts.PeerEndpoint
	reference []facts.ReferenceConfiguration
}

// Write writes the coverage page, in Markdown. It fails when coverage.yaml or
// unread.yaml leave a row of the facts unexplained, explain one that does not exist,
// or when w fails.
func Write(w io.Writer, c *catalog.Catalog) error {
	endpoints, err := facts.Endpoints()
	if err != nil {
		return fmt.Errorf("reading the endpoints: %w", err)
	}
	peers, err := facts.PeerEndpoints()
	if err != nil {
		return fmt.Errorf("reading the peers: %w", err)
	}
	reference, err := facts.ReferenceConfigurations()
	if err != nil {
		return fmt.Errorf("reading the reference: %w", err)
	}
	text, err := page(c, explanationsText, unreadText, tables{endpoints, peers, reference})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// The columns of the summary.
const (
	typeCount = iota
	userOnlyCount
	referenceCount
	entraExporterCount
	intuneCDCount
	columns
)

// elsewhere is the line of the summary for what no type reads.
const elsewhere = "not read"

func page(c *catalog.Catalog, explanationsText, unreadText string, rows tables) (string, error) {
	texts, err := parseExplanations(explanationsText)
	if err != nil {
		return "", err
	}
	notRead, err := parseUnread(unreadText)
	if err != nil {
		return "", err
	}
	x := newExplainer(c, texts)
	summary := make(map[string]*[columns]int)
	count := func(workload string, column int) {
		if summary[workload] == nil {
			summary[workload] = new([columns]int)
		}
		summary[workload][column]++
	}
	for _, t := range c.Types() {
		count(t.Workload(), typeCount)
		if len(t.ServicePrincipal) == 0 {
			count(t.Workload(), userOnlyCount)
		}
	}
	var reference, entraExporter, intuneCD strings.Builder
	for _, r := range rows.reference {
		f := x.reference(r)
		count(f.workload(), referenceCount)
		if strings.HasPrefix(r.Namespace, "MSGraph:") {
			fmt.Fprintf(&reference, "| %s | %s | `%s` | %s |\n", cell(r.Workload), cell(r.Configuration), r.Namespace, f)
		}
	}
	for _, p := range rows.peers {
		f := x.peer(p)
		into, column := &entraExporter, entraExporterCount
		if p.Peer == "IntuneCD" {
			into, column = &intuneCD, intuneCDCount
		}
		count(f.workload(), column)
		fmt.Fprintf(into, "| %s | `%s` | %s |\n", cell(p.Name), p.Version+" "+cell(p.Path), f)
	}
	configuration, read, err := x.documented(rows.endpoints, notRead)
	if err := errors.Join(x.err(), err); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(head)
	writeSummary(&b, summary)
	fmt.Fprintf(&b, documentedText, configuration, read, configuration-read)
	b.WriteString(notRead.table())
	b.WriteString(referenceHead + reference.String() + otherReferences(rows.reference, texts))
	b.WriteString(entraExporterHead + entraExporter.String())
	b.WriteString(intuneCDHead + intuneCD.String())
	return b.String(), nil
}

// workload is the workload of the first type that reads a row.
func (f finding) workload() string {
	if len(f.types) == 0 {
		return elsewhere
	}
	workload, _, _ := strings.Cut(f.types[0], "/")
	return workload
}

// String writes a finding as a cell of a table.
func (f finding) String() string {
	if len(f.types) == 0 {
		return "no: " + cell(f.why)
	}
	text := "`" + strings.Join(f.types, "`, `") + "`"
	if f.why != "" {
		text += ". " + cell(f.why)
	}
	return text
}

// cell keeps a text from breaking its table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

func writeSummary(b *strings.Builder, summary map[string]*[columns]int) {
	var total [columns]int
	line := func(name string, counts *[columns]int) {
		fmt.Fprintf(b, "| %s |", name)
		for _, n := range counts {
			fmt.Fprintf(b, " %d |", n)
		}
		b.WriteString("\n")
	}
	for _, workload := range slices.Sorted(maps.Keys(summary)) {
		counts := summary[workload]
		for i, n := range counts {
			total[i] += n
		}
		if workload != elsewhere {
			line(workload, counts)
		}
	}
	if counts := summary[elsewhere]; counts != nil {
		line(elsewhere, counts)
	}
	line("all", &total)
}

// otherReferences lists how many configurations of the reference product are not
// in Microsoft Graph, by API.
func otherReferences(reference []facts.ReferenceConfiguration, texts *explanations) string {
	counts := make(map[string]int)
	for _, r := range reference {
		api, _, _ := strings.Cut(r.Namespace, ":")
		if api != "MSGraph" {
			counts[api]++
		}
	}
	var b strings.Builder
	b.WriteString(otherReferenceHead)
	for _, api := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "| %s | %d | %s |\n", api, counts[api], cell(texts.Namespaces[api]))
	}
	return b.String()
}
