package tenant

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Problem is something wrong with a definition, or something to know about it. It
// never has a secret, nor a value that may hold one.
type Problem struct {
	// Key is where: `service_principal.client_id`, or `[2].id` in a list.
	Key string
	// Detail says what is wrong and what to write instead, after the key and a
	// colon.
	Detail string
}

// idPattern is that of {tenant} in the contract.
var idPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// maxText is how much of a value is repeated in a message.
const maxText = 60

// quoted returns a value for a message.
func quoted(value string) string {
	if runes := []rune(value); len(runes) > maxText {
		value = string(runes[:maxText]) + "…"
	}
	return fmt.Sprintf("%q", value)
}

// checker collects the problems of one definition.
type checker struct{ problems []Problem }

func (c *checker) add(key, format string, v ...any) {
	c.problems = append(c.problems, Problem{Key: key, Detail: fmt.Sprintf(format, v...)})
}

// Check returns all that is wrong with a definition. What must be there and is
// empty is not reported again: whoever decoded the definition did.
func (d *Definition) Check() []Problem {
	var c checker
	if d.ID != "" && !idPattern.MatchString(d.ID) {
		c.add("id", "%s is not an id for a tenant. Write lower-case letters, digits and hyphens, at most 63, "+
			"and no hyphen at either end.", quoted(d.ID))
	}
	c.directory(d.DirectoryID)
	if len(d.ConfigurationTypes) == 0 {
		c.add("configuration_types", "selects nothing. Write `[\"*\"]` for all, or leave the key out.")
	}
	c.servicePrincipal(&d.ServicePrincipal)
	if d.User != nil {
		c.user(d.User)
	} else if d.AuthenticationPolicy == understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER {
		c.add("authentication_policy", "requires a user, and the tenant has none. Write `user`, or another policy.")
	}
	c.repository(&d.Repository)
	return c.problems
}

func (c *checker) directory(id string) {
	if slices.Contains([]string{"common", "organizations", "consumers"}, strings.ToLower(id)) {
		c.add("directory_id", "%s is no directory: it would let the account choose. Write the id of the directory (tenant).", quoted(id))
		return
	}
	if id != "" && !isUUID(id) {
		c.add("directory_id", "%s is not a UUID. Write the directory (tenant) id, as the overview page of Microsoft Entra ID "+
			"shows it; a domain name does not do.", quoted(id))
	}
}

func (c *checker) clientID(key, id string) {
	if id != "" && !isUUID(id) {
		// Not repeated: a client secret is easily put here.
		c.add(key, "is not a UUID. Write the application (client) id of the app registration.")
	}
}

// isUUID accepts the form with hyphens only, and not the nil UUID.
func isUUID(id string) bool {
	parsed, err := uuid.Parse(id)
	return err == nil && len(id) == 36 && parsed != uuid.Nil
}

func (c *checker) servicePrincipal(s *ServicePrincipal) {
	c.clientID("service_principal.client_id", s.ClientID)
	switch {
	case s.ClientSecret == nil && s.Certificate == nil:
		c.add("service_principal", "has no credential. Write `client_secret: {env: NAME}` or `certificate: {file: PATH}`.")
	case s.ClientSecret != nil && s.Certificate != nil:
		c.add("service_principal.certificate", "is there beside client_secret. Write one of them, and leave out the other.")
	}
}

func (c *checker) user(u *User) {
	c.clientID("user.client_id", u.ClientID)
	if before, after, ok := strings.Cut(u.Username, "@"); u.Username != "" &&
		(!ok || before == "" || after == "" || strings.ContainsAny(u.Username, " \t\r\n")) {
		c.add("user.username", "is not a user principal name. Write it as in `backup@contoso.example`.")
	}
	if u.SignInTimeout <= 0 {
		c.add("user.sign_in_timeout", "is not positive. Write how long one sign-in may take, for example `5m`.")
	}
	switch u.Method {
	case ServiceAccount:
		if u.Username == "" {
			c.add("user.username", "is missing, and a service account signs in with it. Write, for example, `backup@contoso.example`.")
		}
		if u.Password == nil {
			c.add("user.password", "is missing, and a service account signs in with it. Write `{env: NAME}` or `{file: PATH}`.")
		}
	case Delegated:
		if u.Password != nil {
			c.add("user.password", "is not used with a delegated sign-in. Leave it out, or write `method: service_account`.")
		}
	}
}

// CheckAll returns all that is wrong with the definitions of one service, alone and
// together.
func CheckAll(definitions []Definition) []Problem {
	var problems []Problem
	for i := range definitions {
		for _, p := range definitions[i].Check() {
			problems = append(problems, Problem{Key: fmt.Sprintf("[%d].%s", i, p.Key), Detail: p.Detail})
		}
	}
	problems = append(problems, twice(definitions, func(d *Definition) string { return d.ID }, "id",
		"is that of tenants[%d] too. Write another: backups are stored under it.")...)
	return append(problems, twice(definitions, func(d *Definition) string { return d.Repository.place() }, "repository.remote",
		"has the branch that tenants[%d] is pushed to. Write another remote or branch: each would overwrite the other.")...)
}

// Notes returns what is not wrong with the definitions, but worth a warning.
func Notes(definitions []Definition) []Problem {
	return twice(definitions, func(d *Definition) string { return strings.ToLower(d.DirectoryID) }, "directory_id",
		"is that of tenants[%d] too. Each reads the directory within its limits, so that together they may exceed them.")
}

// twice finds values that several definitions have. Format has the place of the
// first.
func twice(definitions []Definition, value func(*Definition) string, key, format string) []Problem {
	var problems []Problem
	first := make(map[string]int, len(definitions))
	for i := range definitions {
		v := value(&definitions[i])
		if v == "" {
			continue
		}
		if earlier, ok := first[v]; ok {
			problems = append(problems, Problem{Key: fmt.Sprintf("[%d].%s", i, key), Detail: fmt.Sprintf(format, earlier)})
			continue
		}
		first[v] = i
	}
	return problems
}
