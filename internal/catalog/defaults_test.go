package catalog

import (
	"slices"
	"testing"
)

// The global cloud has every path: there an unknown one is a fault, and not a feature
// that the tenant does not have.
func TestNotAvailableIn(t *testing.T) {
	for graph, more := range map[string]int{
		"https://graph.microsoft.com": 0, "https://GRAPH.microsoft.com/": 0,
		"https://graph.microsoft.us": 1, "https://microsoftgraph.chinacloudapi.cn": 1, "https://127.0.0.1:8443": 1,
	} {
		answers := NotAvailableIn(graph)
		unknown := slices.ContainsFunc(answers, func(a Answer) bool { return a.Message == "Resource not found for the segment" })
		if len(answers) != len(DefaultNotAvailable())+more || unknown != (more == 1) {
			t.Errorf("%s: %+v", graph, answers)
		}
		if paths := UnknownPathIn(graph); len(paths) != more {
			t.Errorf("%s: %+v", graph, paths)
		}
	}
}
