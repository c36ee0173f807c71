package main

import (
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/tenant"
)

// choice is one of the words that a key accepts, and what it stands for.
type choice struct {
	word  string
	value any
}

// choices are the words of the types that have some.
var choices = map[reflect.Type][]choice{
	reflect.TypeFor[slog.Level](): {
		{"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError},
	},
	reflect.TypeFor[logFormat]():     {{"text", logText}, {"json", logJSON}},
	reflect.TypeFor[tenant.Method](): {{"delegated", tenant.Delegated}, {"service_account", tenant.ServiceAccount}},
	reflect.TypeFor[understudyv1.AuthenticationPolicy](): {
		{"continue_without_user", understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_CONTINUE_WITHOUT_USER},
		{"require_user", understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER},
		{"service_principal_only", understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY},
	},
}

func (d *decoder) decodeScalar(node *yaml.Node, into reflect.Value, key string, tag reflect.StructTag) {
	if words, ok := choices[into.Type()]; ok {
		d.decodeChoice(node, into, key, words)
		return
	}
	if into.Type() == reflect.TypeFor[time.Duration]() {
		d.decodeDuration(node, into, key)
		return
	}
	switch into.Kind() {
	case reflect.String:
		d.decodeText(node, into, key, tag)
	case reflect.Bool:
		if node.ShortTag() != "!!bool" || node.Value != "true" && node.Value != "false" {
			d.wrong(key, "is not true or false. Write `true` or `false`, without quotes; yes, no, on and off are texts in YAML 1.2.")
			return
		}
		into.SetBool(node.Value == "true")
	case reflect.Int:
		// The library reads 010 as 8 and 1_000 as 1000: say what is meant.
		if node.ShortTag() != "!!int" || !decimal.MatchString(node.Value) {
			d.wrong(key, "is not a whole number. Write at most 9 decimal digits, without a zero in front, for example `8`.")
			return
		}
		number, _ := strconv.ParseInt(node.Value, 10, 64) // the pattern leaves nothing to fail
		into.SetInt(number)
	default:
		panic(fmt.Sprintf("the configuration has a field of type %s", into.Type()))
	}
}

var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,8})$`)

func (d *decoder) decodeText(node *yaml.Node, into reflect.Value, key string, tag reflect.StructTag) {
	if node.ShortTag() != "!!str" {
		d.wrong(key, "is not a text but a number, date or boolean. Put it in quotes.")
		return
	}
	if example, ok := tag.Lookup("required"); ok && node.Value == "" {
		d.wrong(key, "is empty. Write, for example, `%s: %s`.", tag.Get("yaml"), example)
		return
	}
	if strings.ContainsFunc(node.Value, func(r rune) bool { return r < ' ' }) {
		d.wrong(key, "has a line break or a control character. Write it in one line.")
		return
	}
	text := node.Value
	if tag.Get("path") == "file" && text != "" {
		text = d.resolve(text)
		d.files = append(d.files, reference{key: key, path: text})
	}
	into.SetString(text)
}

func (d *decoder) decodeChoice(node *yaml.Node, into reflect.Value, key string, words []choice) {
	names := make([]string, len(words))
	for i, c := range words {
		if node.Value == c.word {
			into.Set(reflect.ValueOf(c.value))
			return
		}
		names[i] = "`" + c.word + "`"
	}
	last := len(names) - 1
	d.wrong(key, "%s is not one of the words that it can be. Write %s or %s.", shown(node.Value),
		strings.Join(names[:last], ", "), names[last])
}

func (d *decoder) decodeDuration(node *yaml.Node, into reflect.Value, key string) {
	if node.ShortTag() == "!!int" && decimal.MatchString(node.Value) && node.Value != "0" {
		d.wrong(key, "has no unit. Write `%ss` if these are seconds, or use m or h.", node.Value)
		return
	}
	duration, err := time.ParseDuration(node.Value)
	if err != nil {
		d.wrong(key, "%s is not a duration. Write numbers with the units h, m, s or ms, for example `90s` or `1h30m`.", shown(node.Value))
		return
	}
	into.SetInt(int64(duration))
}

// shown returns a value for a message, shortened.
func shown(value string) string {
	if runes := []rune(value); len(runes) > 40 {
		value = string(runes[:40]) + "…"
	}
	return strconv.Quote(value)
}

const secretForms = "Write `{env: NAME}` or `{file: PATH}`."

// decodeSecret decodes where a secret is. No message repeats anything that stands
// there: it may be the secret itself.
func (d *decoder) decodeSecret(node *yaml.Node, into *tenant.Secret, key string) {
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" && node.Anchor == "" && node.Style&yaml.TaggedStyle == 0:
		d.wrong(key, "is empty. %s", secretForms)
		return
	case node.Kind != yaml.MappingNode || node.Anchor != "" || node.Style&yaml.TaggedStyle != 0:
		d.wrong(key, "is a literal, and secrets are never in this file. %s", secretForms)
		return
	case len(node.Content) != 2 || node.Content[0].Kind != yaml.ScalarNode:
		d.wrong(key, "does not say in one way where the secret is. %s", secretForms)
		return
	}
	name, value := node.Content[0].Value, node.Content[1]
	if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || value.Value == "" || value.Anchor != "" ||
		strings.ContainsFunc(value.Value, func(r rune) bool { return r < ' ' }) {
		d.wrong(key, "does not say where the secret is. %s", secretForms)
		return
	}
	switch name {
	case "env":
		secret, err := tenant.FromEnvironment(value.Value)
		if err != nil {
			d.wrong(key, "what stands after `env` %s. Write its name, as in `{env: CONTOSO_SECRET}`, and never the secret itself.", err)
			return
		}
		*into = secret
	case "file":
		*into = tenant.FromFile(d.resolve(value.Value))
	default:
		d.wrong(key, "does not say where the secret is. %s", secretForms)
		return
	}
	d.secrets = append(d.secrets, reference{key: key, secret: into})
}
