package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var updateConfig = flag.Bool("update-config", false, "write what is found into testdata/config/*.txtar")

// The archives have pairs of files: `name.yaml`, and what is wrong with it, line by
// line, in `name.txt`. Tenants that a case does not speak of are in ordinary.
func TestParseConfigSaysAllThatIsWrong(t *testing.T) {
	archives, err := filepath.Glob("testdata/config/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(archive.Files); i += 2 {
			file, want := archive.Files[i], &archive.Files[i+1]
			base := strings.TrimSuffix(file.Name, ".yaml")
			if want.Name != base+".txt" {
				t.Fatalf("%s: %s is not followed by %s.txt", name, file.Name, base)
			}
			t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar")+"/"+base, func(t *testing.T) {
				got := failureOf(t, strings.ReplaceAll(string(file.Data), "<TENANT>", ordinaryTenant))
				if *updateConfig {
					want.Data = []byte(got)
					return
				}
				if diff := cmp.Diff(string(want.Data), got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
		if *updateConfig {
			if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ordinaryTenant is a tenant without mistakes, in one line.
const ordinaryTenant = `{id: contoso, directory_id: 22222222-2222-4222-8222-222222222222, ` +
	`service_principal: {client_id: 33333333-3333-4333-8333-333333333333, client_secret: {env: CONTOSO_SECRET}}}`

// failureOf returns the message of a bad file, with a line break at its end.
func failureOf(t *testing.T, content string) string {
	t.Helper()
	_, err := parseConfig("understudy.yaml", []byte(content))
	var failed *configError
	if !errors.As(err, &failed) {
		t.Fatalf("error %v, want a configError", err)
	}
	return err.Error() + "\n"
}

func TestParseConfigRefusesWhatIsNoText(t *testing.T) {
	for content, want := range map[string]string{
		"data_dir: a\nlog: \x00":                         "understudy.yaml:2:6: this is a control character. Remove it.\n",
		"data_dir: é\x1b":                                "understudy.yaml:1:12: this is a control character. Remove it.\n",
		"data_dir: \xff":                                 "understudy.yaml:1:11: this byte is not UTF-8. Save the file as UTF-8.\n",
		"\xff\xfed\x00a\x00":                             "understudy.yaml:1:1: this byte is not UTF-8. Save the file as UTF-8.\n",
		"a: \ufeff":                                      "understudy.yaml:1:4: this is a control character. Remove it.\n",
		strings.Repeat("[", 100_000):                     "understudy.yaml:1:10001: this is nested too deeply. Write what docs/configuration.md describes.\n",
		strings.Repeat("a: {", 100_000):                  "understudy.yaml:1:40004: this is nested too deeply. Write what docs/configuration.md describes.\n",
		"tenants: [" + ordinaryTenant + "]\n%YAML 1.1\n": "understudy.yaml:2:1: this is not YAML. Check the quotes, brackets and indentation here and in the line before.\n",
	} {
		if got := failureOf(t, content); got != want {
			t.Errorf("%.20q: got\n%swant\n%s", content, got, want)
		}
	}
}

// No message repeats a secret, however it was written in the place of one.
func FuzzParseConfigKeepsSecrets(f *testing.F) {
	const marker = "Zq7hunter2qZ"
	for _, around := range [][2]string{
		{"", ""},
		{"'", "'"},
		{"\"", "\""},
		{"*", ""},
		{"&", ""},
		{"!", ""},
		{"!<", ""},
		{"{", "}"},
		{"[", "]"},
		{"{env: [", "]}"},
		{"\"\\q", ""},
		{"{env: $", "}"},
		{"{? ", "}"},
		{"@", ""},
		{"|", ""},
		{"a: ", ""},
		{"{env: X, ", ": 1}"},
		{"{env: X} # ", ""},
		{"%", ""},
		{"{<<: ", "}"},
		{"- ", ""},
	} {
		f.Add(around[0], around[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.ContainsAny(before+after, "\r\n\u0085\u2028\u2029") {
			return // another line is not the place of the secret any more
		}
		content := "tenants:\n  - id: contoso\n    directory_id: 22222222-2222-4222-8222-222222222222\n    service_principal:\n" +
			"      client_id: 33333333-3333-4333-8333-333333333333\n      client_secret: " + before + marker + after + "\n"
		c, err := parseConfig("understudy.yaml", []byte(content))
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%q in the message\n%s", content, err)
		}
		if c != nil && strings.Contains(strings.Join(c.warnings, ""), marker) {
			t.Errorf("%q in a warning", content)
		}
	})
}

// Whatever the file is, it is accepted or refused with a place, and an accepted one
// is complete.
func FuzzParseConfig(f *testing.F) {
	archives, err := filepath.Glob("testdata/config/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			f.Add([]byte(strings.ReplaceAll(string(file.Data), "<TENANT>", ordinaryTenant)))
		}
	}
	f.Add([]byte("tenants: [" + ordinaryTenant + "]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := parseConfig("f", content)
		var failed *configError
		switch {
		case err == nil && (len(c.Tenants) == 0 || c.GRPC.Listen == "" || c.Tenants[0].DirectoryID == "" || c.Tenants[0].Repository.Branch == ""):
			t.Errorf("accepted, and not complete: %+v", c)
		case err != nil && (!errors.As(err, &failed) || len(failed.problems) == 0):
			t.Errorf("an error without a place: %v", err)
		case err != nil:
			for _, p := range failed.problems {
				if p.line < 1 || p.column < 1 || p.detail == "" || strings.Contains(p.detail, "\n") {
					t.Errorf("problem %+v", p)
				}
			}
		}
	})
}
