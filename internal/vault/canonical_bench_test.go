package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"understudy.internal/internal/catalog"
)

// policy returns a document as Graph sends them, of about a size.
func policy(random *rand.Rand, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"@odata.type":"#microsoft.graph.configurationPolicy","id":"%032x","displayName":"Policy é %d","createdDateTime":"2026-01-0%dT00:00:00.0000000Z","version":%d,"settings":[`,
		random.Uint64(), random.IntN(1000), 1+random.IntN(9), random.IntN(100))
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"settingInstance":{"settingDefinitionId":"device_vendor_msft_policy_config_%08x","@odata.type":"#x.choice","choiceSettingValue":{"value":"v_%d","children":[],"isSet":true,"weight":%d.50}},"id":"%d"}`,
			random.Uint32(), random.IntN(9), random.IntN(1000), i)
	}
	b.WriteString(`],"description":null,"roleScopeTagIds":["0"]}`)
	return b.Bytes()
}

// viaEncodingJSON does what the canonical encoder does, as well as the standard
// library can without losing numbers.
func viaEncodingJSON(document []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return json.MarshalIndent(value, "", indentation)
}

func BenchmarkCanonical(b *testing.B) {
	ruled := &catalog.Type{
		Volatile: []string{"createdDateTime", "**/version"}, Arrays: []catalog.ArrayRule{{Path: "settings", Key: "id"}},
		Secrets: []catalog.SecretRule{{Property: "settings/*/settingInstance/secret"}},
	}
	for _, test := range []struct {
		name string
		size int
		t    *catalog.Type
	}{
		{"3KB", 3 << 10, &catalog.Type{}},
		{"200KB", 200 << 10, &catalog.Type{}},
		{"200KB_with_rules", 200 << 10, ruled},
	} {
		b.Run(test.name, func(b *testing.B) {
			document := policy(rand.New(rand.NewPCG(1, 2)), test.size)
			r := mustRules(b, test.t)
			floor := measure(b, func() error {
				_, err := viaEncodingJSON(document)
				return err
			})
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if _, err := r.canonical(document); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(floor.Seconds()*float64(b.N)/b.Elapsed().Seconds(), "x_of_encoding_json")
		})
	}
}

// measure returns the mean time of a call, over about a fifth of a second.
func measure(b *testing.B, call func() error) time.Duration {
	b.Helper()
	begin := time.Now()
	for n := 1; ; n++ {
		if err := call(); err != nil {
			b.Fatal(err)
		}
		if elapsed := time.Since(begin); elapsed > 200*time.Millisecond {
			return elapsed / time.Duration(n)
		}
	}
}
