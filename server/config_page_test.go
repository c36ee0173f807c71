package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/tenant"
)

// documented is a key that a file can have.
type documented struct{ key, kind, standard string }

// keysOf lists the keys below a section, as the page writes them.
func keysOf(section reflect.Type, outer string) []documented {
	var keys []documented
	for _, field := range fields(section) {
		key, of := childKey(outer, field.Tag.Get("yaml")), field.Type
		switch of.Kind() {
		case reflect.Map:
			key, of = key+".<name>", of.Elem()
		case reflect.Slice:
			if of.Elem().Kind() == reflect.Struct {
				key, of = key+"[]", of.Elem()
			}
		case reflect.Pointer:
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct && of != secretType {
			keys = append(keys, keysOf(of, key)...)
			continue
		}
		standard := ""
		if _, ok := field.Tag.Lookup("required"); ok {
			standard = "required"
		}
		if text, ok := field.Tag.Lookup("default"); ok {
			standard = "`" + text + "`"
			if text == "" {
				standard = "`\"\"`"
			}
		}
		keys = append(keys, documented{key, kindOf(of, field.Tag), standard})
	}
	return keys
}

func kindOf(of reflect.Type, tag reflect.StructTag) string {
	switch {
	case of == secretType:
		return "secret"
	case choices[of] != nil:
		return "word"
	case of == reflect.TypeFor[time.Duration]():
		return "duration"
	case of.Kind() == reflect.Slice:
		return "list of texts"
	case of.Kind() == reflect.Bool:
		return "boolean"
	case of.Kind() == reflect.Int:
		return "number"
	case tag.Get("path") != "":
		return "path"
	}
	return "text"
}

// The page has a row for every key, with its type and default, and for nothing else.
func TestPageHasEveryKey(t *testing.T) {
	page := string(readTestFile(t, "../docs/configuration.md"))
	rows := map[string][]string{}
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) == 4 && strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			key := strings.Trim(cells[0], "`")
			if rows[key] != nil {
				t.Errorf("%s has two rows", key)
			}
			rows[key] = cells
		}
	}
	keys := keysOf(reflect.TypeFor[config](), "")
	if len(keys) < 30 {
		t.Fatalf("only %d keys were found", len(keys))
	}
	for _, k := range keys {
		row := rows[k.key]
		delete(rows, k.key)
		if row == nil {
			t.Errorf("the page has no row for %s", k.key)
			continue
		}
		if strings.HasPrefix(k.standard, "`") || k.standard == "required" || strings.HasPrefix(row[2], "`") || row[2] == "required" {
			if row[2] != k.standard {
				t.Errorf("%s: the page has the default %s, the program %s", k.key, row[2], k.standard)
			}
		}
		// Two types have a narrower name on the page than in the program.
		if wider := map[string]string{"UUID": "text"}[row[1]]; row[1] != k.kind && wider != k.kind && k.key != "data_dir" {
			t.Errorf("%s: the page says %s, the program %s", k.key, row[1], k.kind)
		}
		if row[3] == "" {
			t.Errorf("%s has no meaning", k.key)
		}
	}
	for key := range rows {
		t.Errorf("the page has %s, which is no key", key)
	}
	for of, words := range choices {
		for _, word := range words {
			if !strings.Contains(page, "`"+word.word+"`") {
				t.Errorf("the page does not have the word %s of %s", word.word, of)
			}
		}
	}
}

// The examples on the page and in deploy are files that are accepted.
func TestExamplesAreAccepted(t *testing.T) {
	_, rest, _ := strings.Cut(string(readTestFile(t, "../docs/configuration.md")), "```yaml\n")
	onPage, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no example")
	}
	for name, content := range map[string]string{
		"docs/configuration.md": onPage, "deploy/understudy.example.yaml": string(readTestFile(t, "../deploy/understudy.example.yaml")),
	} {
		c, err := parseConfig(name, []byte(content))
		if err != nil {
			t.Error(err)
		} else if len(c.warnings) > 0 {
			t.Errorf("%s: %q", name, c.warnings)
		}
	}
}

// What is commented out in the example is accepted too.
func TestExampleWithTLS(t *testing.T) {
	content := string(readTestFile(t, "../deploy/understudy.example.yaml"))
	content = strings.Replace(content, "  listen: 127.0.0.1:8443\n", "", 1)
	for _, line := range []string{"listen: :8443", "tls:", "  certificate_file:", "  key_file:", "  client_ca_file:"} {
		if !strings.Contains(content, "  # "+line) {
			t.Fatalf("the example has no line %s", line)
		}
		content = strings.Replace(content, "  # "+line, "  "+line, 1)
	}
	c, err := parseConfig("/etc/understudy/understudy.yaml", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := tlsConfig{
		CertificateFile: "/etc/understudy/tls/server.crt", KeyFile: "/etc/understudy/tls/server.key", ClientCAFile: "/etc/understudy/tls/clients.crt",
	}
	if *c.GRPC.TLS != want {
		t.Errorf("tls %+v", *c.GRPC.TLS)
	}
}

// Every default and every example of a key that is required is accepted by the key.
func TestTagsAreTrue(t *testing.T) {
	d := newDecoder("x.yaml")
	for _, section := range []reflect.Type{
		reflect.TypeFor[config](), reflect.TypeFor[grpcConfig](), reflect.TypeFor[limitsConfig](), reflect.TypeFor[logConfig](),
		reflect.TypeFor[tlsConfig](), reflect.TypeFor[cloudConfig](), reflect.TypeFor[journalConfig](), reflect.TypeFor[clusterConfig](), reflect.TypeFor[metricsConfig](),
		reflect.TypeFor[tenant.Definition](), reflect.TypeFor[tenant.User](),
		reflect.TypeFor[tenant.ServicePrincipal](), reflect.TypeFor[tenant.Repository](),
	} {
		for _, field := range fields(section) {
			example, ok := field.Tag.Lookup("required")
			if ok && strings.Contains(example, "…") {
				continue // a section, shortened
			}
			if !ok {
				example = field.Tag.Get("default")
			}
			if example == "" {
				continue
			}
			node := d.parse([]byte(example))
			if node == nil {
				t.Fatalf("%s: %s", field.Name, fmt.Sprint(d.problems))
			}
			d.decode(node, reflect.New(field.Type).Elem(), field.Name, field.Tag)
		}
	}
	if err := d.failure(); err != nil {
		t.Error(err)
	}
}
