package simulator

import "strings"

// hostileIDs are ids, and names, that a backup must survive: they are the first of
// every collection when Config.Hostile is set.
func hostileIDs() []string { return hostile }

var hostile = []string{
	"../../x",
	"CON",
	"aux.txt",
	".git/hooks/post-commit",
	"\u202egnp.exe",
	"Case", "case",
	"nul\x00byte",
	"caf\u00e9", "cafe\u0301",
	"a?b#c%2e&d",
	"dot.", " space ",
	"quote'\"\\",
	strings.Repeat("n", 1000),
}
