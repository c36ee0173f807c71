package simulator

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Scenario is what goes wrong in the tenant.
type Scenario struct {
	// Name is one of Scenarios.
	Name string `json:"name"`
	// Identity is whom it concerns: `user` or `service-principal`; as the scenario
	// says when empty.
	Identity string `json:"identity,omitempty"`
	// Path restricts a fault of Graph to paths that have this run of segments:
	// `/v1.0/groups`, `/deviceConfigurations/*/assignments`. A `$` at the end
	// demands that the path ends there: `/v1.0/groups$` is the list alone.
	Path string `json:"path,omitempty"`
	// Status is the HTTP status of a fault that has one.
	Status int `json:"status,omitempty"`
	// After is how many requests that it concerns are answered before the fault.
	After int `json:"after,omitempty"`
	// Times is how often each address is refused before it is answered; negative:
	// always. 0 is what the scenario says.
	Times int `json:"times,omitempty"`
	// RetryAfter is what throttled answers say, in seconds; 1 when 0, nothing when
	// negative.
	RetryAfter int `json:"retry_after,omitempty"`
	// Permission is the one that is missing.
	Permission string `json:"permission,omitempty"`
}

// ScenarioInfo describes a scenario.
type ScenarioInfo struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	// Of says which tenants meet it: those whose user signs in so, or all.
	Of string `json:"of"`
	// Options are the fields of a [Scenario] that it takes, by their JSON names.
	Options []string `json:"options,omitempty"`
}

// ScenarioError says what is wrong with a scenario.
type ScenarioError struct {
	// Scenario is its name; Detail says what is wrong and what to write instead.
	Scenario, Detail string
}

// Error implements error.
func (e *ScenarioError) Error() string { return fmt.Sprintf("scenario %q: %s", e.Scenario, e.Detail) }

// The kinds of tokens.
const (
	user        = "user"
	application = "application"
)

// kindOf returns the kind of token of an identity.
func kindOf(identity, standard string) string {
	switch identity {
	case servicePrincipal:
		return application
	case user:
		return user
	}
	return standard
}

const servicePrincipal = "service-principal"

func identityOf(kind string) string {
	if kind == application {
		return servicePrincipal
	}
	return kind
}

// ParseScenario reads the form of the command line,
// `name[:option=value,option=value…]`, with the names of the JSON form. An error is
// a [*ScenarioError].
func ParseScenario(text string) (Scenario, error) {
	name, rest, _ := strings.Cut(text, ":")
	sc := Scenario{Name: name}
	if rest == "" {
		return sc, sc.check()
	}
	for option := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			return sc, &ScenarioError{name, fmt.Sprintf("%q is not option=value", option)}
		}
		if err := sc.set(key, value); err != nil {
			return sc, err
		}
	}
	return sc, sc.check()
}

func (sc *Scenario) set(key, value string) error {
	number := map[string]*int{"status": &sc.Status, "after": &sc.After, "times": &sc.Times, "retry_after": &sc.RetryAfter}[key]
	text := map[string]*string{"identity": &sc.Identity, "path": &sc.Path, "permission": &sc.Permission}[key]
	switch {
	case text != nil:
		*text = value
	case number != nil:
		n, err := strconv.Atoi(value)
		if err != nil {
			return &ScenarioError{sc.Name, fmt.Sprintf("%s=%s is no number", key, value)}
		}
		*number = n
	default:
		return &ScenarioError{sc.Name, fmt.Sprintf("there is no option %q", key)}
	}
	return nil
}

// options returns the options that are set.
func (sc *Scenario) options() []string {
	var set []string
	for _, o := range []struct {
		name string
		set  bool
	}{
		{"identity", sc.Identity != ""},
		{"path", sc.Path != ""},
		{"status", sc.Status != 0},
		{"after", sc.After != 0},
		{"times", sc.Times != 0},
		{"retry_after", sc.RetryAfter != 0},
		{"permission", sc.Permission != ""},
	} {
		if o.set {
			set = append(set, o.name)
		}
	}
	return set
}

// check says what is wrong with a scenario.
func (sc *Scenario) check() error {
	d, ok := definition(sc.Name)
	if !ok {
		return &ScenarioError{sc.Name, "there is no such scenario; the names are " + strings.Join(scenarioNames(), ", ")}
	}
	fail := func(format string, arguments ...any) error {
		return &ScenarioError{sc.Name, fmt.Sprintf(format, arguments...)}
	}
	switch {
	case sc.Identity != "" && sc.Identity != user && sc.Identity != servicePrincipal:
		return fail("identity %q must be user or service-principal", sc.Identity)
	case sc.Identity != "" && !contains(d.options, "identity") && kindOf(sc.Identity, "") != d.kind:
		return fail("it cannot happen to the %s", sc.Identity)
	case sc.Status != 0 && sc.Status != http.StatusOK && (sc.Status < 400 || sc.Status > 599):
		return fail("status %d must be between 400 and 599, or 200 for an error that says success", sc.Status)
	case sc.After < 0:
		return fail("after must not be negative")
	case sc.Name == permissionMissing && sc.Permission == "":
		return fail("permission is missing: write which one, for example Policy.Read.All")
	case sc.Name == notAvailableName && sc.Path == "":
		return fail("path is missing: write what is not available")
	}
	for _, option := range sc.options() {
		if option != "identity" && !contains(d.options, option) {
			return fail("it has no %s; it has %s", option, orNothing(d.options))
		}
	}
	return nil
}

func orNothing(options []string) string {
	if len(options) == 0 {
		return "no options"
	}
	return strings.Join(options, ", ")
}
