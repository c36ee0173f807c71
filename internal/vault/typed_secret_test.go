package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"understudy.internal/internal/catalog"
)

// typed is a type with secrets in objects of one type only.
var typed = &catalog.Type{
	ID: "intune/typed",
	Secrets: []catalog.SecretRule{
		{Property: "payload", When: []string{"#microsoft.graph.wifi", "#microsoft.graph.vpn"}},
		{Property: "**/value", When: []string{"#microsoft.graph.secretValue", "valueState"}},
		{Property: "**/always"},
	},
	Arrays:   []catalog.ArrayRule{{Path: "**/list"}},
	Payloads: []catalog.PayloadRule{{Property: "payload", Extension: "xml"}},
}

func TestSecretsOfSomeTypes(t *testing.T) {
	const hidden, shown = "TOP-SECRET", "PLAIN"
	for name, in := range map[string]string{
		"the type first":                        `{"@odata.type":"#microsoft.graph.wifi","payload":"TOP-SECRET"}`,
		"the type last":                         `{"payload":"TOP-SECRET","@odata.type":"#microsoft.graph.vpn"}`,
		"the type escaped":                      `{"payload":"TOP-SECRET","\u0040odata.type":"\u0023microsoft.graph.vp\u006e"}`,
		"the type without its #":                `{"payload":"TOP-SECRET","@odata.type":"microsoft.graph.wifi"}`,
		"another type":                          `{"@odata.type":"#microsoft.graph.custom","payload":"PLAIN"}`,
		"no type":                               `{"payload":"PLAIN"}`,
		"a type that is no text":                `{"payload":"PLAIN","@odata.type":{"x":1}}`,
		"only at the root":                      `{"x":{"@odata.type":"#microsoft.graph.wifi","payload":"PLAIN"}}`,
		"any depth: the root":                   `{"@odata.type":"#microsoft.graph.secretValue","value":"TOP-SECRET"}`,
		"any depth: nested":                     `{"value":"PLAIN","a":[{"b":{"value":{"list":[{"value":"TOP-SECRET","@odata.type":"#microsoft.graph.secretValue"}]}}}]}`,
		"any depth: not the parent's":           `{"@odata.type":"#microsoft.graph.secretValue","x":{"value":"PLAIN"}}`,
		"any depth: the type of others":         `{"a":{"@odata.type":"#microsoft.graph.secretValue"},"value":"PLAIN"}`,
		"beside another, of a type that is new": `{"a":[{"@odata.type":"#microsoft.graph.newer","value":"TOP-SECRET","valueState":"notEncrypted"}]}`,
		"beside another, which is null":         `{"valueState":null,"value":"TOP-SECRET"}`,
		"beside another of another object":      `{"value":"PLAIN","a":{"valueState":"x"}}`,
		"only what is named":                    `{"payload":"PLAIN","valueState":"x"}`,
		"everything in it":                      `{"@odata.type":"#microsoft.graph.secretValue","value":{"x":["TOP-SECRET"],"always":"TOP-SECRET"}}`,
		"with what is always one":               `{"@odata.type":"#microsoft.graph.secretValue","value":"TOP-SECRET","always":"TOP-SECRET"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := mustRules(t, typed)
			d, err := r.document([]byte(in), wanted{payloads: true, secrets: true})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(d.content), hidden) || len(d.payloads) > 0 {
				t.Errorf("a secret is in clear:\n%s%v", d.content, d.payloads)
			}
			if strings.Contains(in, shown) != strings.Contains(string(d.content), shown) {
				t.Errorf("what is no secret is hidden:\n%s", d.content)
			}
			if strings.Contains(in, hidden) != (d.hidden > 0) || strings.Contains(in, hidden) != strings.Contains(string(d.secrets), hidden) {
				t.Errorf("%d hidden: %s", d.hidden, d.secrets)
			}
		})
	}
}

// However objects are nested, and in whatever order their properties come: what is a
// secret by its type is in no file, and everything else is.
func FuzzSecretsOfSomeTypes(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	r, err := newRules(typed, testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		in, secrets, plain := typedDocument(random, 5)
		d, err := r.document([]byte(in), wanted{secrets: true})
		if err != nil {
			t.Fatalf("%v\n%s", err, in)
		}
		if strings.Contains(string(d.content), "SECRET-") || bytes.Count(d.content, []byte("PLAIN-")) != plain {
			t.Errorf("%d secrets, %d others\n%s\n%s", secrets, plain, in, d.content)
		}
		if n := strings.Count(string(d.secrets), `"SECRET-`); n != secrets {
			t.Errorf("%d of %d secrets can be restored\n%s\n%s", n, secrets, in, d.secrets)
		}
	})
}

// typedDocument makes an object of nested ones, and says how many secrets and other
// values are in it.
func typedDocument(random *rand.Rand, depth int) (text string, secrets, plain int) {
	value := `"PLAIN-value"`
	var members []string
	if random.IntN(2) == 0 {
		value, secrets = `"SECRET-value"`, 1
		members = append(members, `"@odata.type":"#microsoft.graph.secretValue"`)
	} else {
		plain++
	}
	members = append(members, `"value":`+value)
	for i := range random.IntN(3) * min(depth, 1) {
		below, s, p := typedDocument(random, depth-1)
		if secrets, plain = secrets+s, plain+p; random.IntN(2) == 0 {
			below = "[" + below + "]"
		}
		members = append(members, fmt.Sprintf(`"%s%d":%s`, []string{"a", "list", "z"}[random.IntN(3)], i, below))
	}
	random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ",") + "}", secrets, plain
}
