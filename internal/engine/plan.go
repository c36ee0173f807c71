package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Catalog finds configuration types. [catalog.Catalog] implements it.
type Catalog interface {
	// Select returns the types that patterns name, ordered by id; a
	// [*catalog.UnknownPatternError] when one names nothing, and a
	// [*catalog.ExcludedError] when one names only what is excluded.
	Select(patterns []string) ([]*catalog.Type, error)
	// Get returns the type with an id.
	Get(id string) (*catalog.Type, bool)
	// Version identifies the content of the catalog.
	Version() string
}

// catalogOf returns what a tenant's definition leaves of the catalog.
func (e *Engine) catalogOf(tenant *Tenant) Catalog {
	if tenant.Catalog != nil {
		return tenant.Catalog
	}
	return e.catalog
}

// plan is what one sync will do: a spec, completed with the tenant's settings.
type plan struct {
	types          []*catalog.Type
	policy         understudyv1.AuthenticationPolicy
	allowPrompt    bool
	timeout        time.Duration
	acceptCollapse map[string]bool
	// lessons are what probes taught of the tenant before this sync, by type; readers
	// are the identities that the tenant has now.
	lessons map[string]port.Lesson
	readers port.Readers
}

// newPlan completes a spec with the settings of its tenant. It fails with a
// [*SpecError].
func (e *Engine) newPlan(tenant *Tenant, spec *understudyv1.SyncSpec) (*plan, error) {
	p := &plan{
		policy:         spec.GetAuthenticationPolicy(),
		allowPrompt:    tenant.AllowPrompt,
		timeout:        e.maxDuration,
		acceptCollapse: make(map[string]bool, len(spec.GetAcceptCollapse())),
		readers:        tenant.Readers,
	}
	if p.policy == understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_UNSPECIFIED {
		p.policy = tenant.Policy
	}
	if tenant.User == nil {
		if p.policy == understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER {
			return nil, &SpecError{
				Field:       "authentication_policy",
				Description: "The tenant has no user. Add `user` to its definition, or choose another policy.",
			}
		}
		p.policy = understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY
	}
	if spec.GetAllowPrompt() || spec.AllowPrompt != nil {
		p.allowPrompt = spec.GetAllowPrompt()
	}
	if d := spec.GetTimeout().AsDuration(); spec.GetTimeout() != nil && d < p.timeout {
		p.timeout = d
	}
	if tenant.Knowledge != nil {
		p.lessons = tenant.Knowledge.Lessons(e.catalogOf(tenant).Version())
	}
	for i, id := range spec.GetAcceptCollapse() {
		if _, ok := e.catalog.Get(id); !ok {
			return nil, unknownType(fmt.Sprintf("accept_collapse[%d]", i), id, nil)
		}
		p.acceptCollapse[id] = true
	}
	if err := p.selectTypes(e.catalogOf(tenant), tenant, spec); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plan) selectTypes(types Catalog, tenant *Tenant, spec *understudyv1.SyncSpec) error {
	patterns := spec.GetConfigurationTypes()
	if len(patterns) == 0 {
		patterns = tenant.ConfigurationTypes
	}
	selected, err := types.Select(patterns)
	if unknown := (*catalog.UnknownPatternError)(nil); errors.As(err, &unknown) {
		return unknownType(fmt.Sprintf("configuration_types[%d]", unknown.Index), unknown.Pattern, unknown.Suggestions)
	}
	if excluded := (*catalog.ExcludedError)(nil); errors.As(err, &excluded) {
		return &SpecError{
			Field: fmt.Sprintf("configuration_types[%d]", excluded.Index),
			Description: fmt.Sprintf("The tenant's definition excludes %s from its backup. Leave it out, "+
				"or have it taken out of `exclude` in the server's configuration.", excluded.Pattern),
		}
	}
	if err != nil {
		return fmt.Errorf("selecting configuration types: %w", err)
	}
	if p.policy != understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY {
		p.types = selected
		return nil
	}
	for i, id := range spec.GetConfigurationTypes() {
		if t, ok := types.Get(id); ok && p.reader(t) == understudyv1.Identity_IDENTITY_USER {
			return &SpecError{
				Field: fmt.Sprintf("configuration_types[%d]", i),
				Description: fmt.Sprintf("Only the user can read %s, and the user is not used: "+
					"the tenant has none, or the policy is SERVICE_PRINCIPAL_ONLY.", id),
			}
		}
	}
	for _, t := range selected {
		if p.reader(t) == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL {
			p.types = append(p.types, t)
		}
	}
	if len(p.types) == 0 {
		return &SpecError{
			Field:       "configuration_types",
			Description: "Nothing is selected: only the user can read these configuration types, and the user is not used.",
		}
	}
	return nil
}

// reader returns the identity that reads a type in this sync: that of the catalog, or
// the service principal where a probe learned that it can.
func (p *plan) reader(t *catalog.Type) understudyv1.Identity {
	if p.learned(t) {
		return understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
	}
	return t.Reader()
}

// learned says whether the service principal reads a type only because a probe
// learned that it can.
func (p *plan) learned(t *catalog.Type) bool {
	lesson, known := p.lesson(t)
	return known && lesson.Answer == port.ProbeEqual
}

// lesson returns what was learned of a type, as it is read in this sync.
func (p *plan) lesson(t *catalog.Type) (port.Lesson, bool) {
	lesson, known := p.lessons[t.ID]
	return lesson, known && len(t.Probe) > 0 && lesson.Filter == t.TenantFilter && p.taught(lesson.Readers)
}

// taught says whether a lesson of some readers holds for those of the tenant. A user
// that was taken out of the definition leaves behind what was learned with it; another
// one may see more.
func (p *plan) taught(by port.Readers) bool {
	return p.readers.ServicePrincipal != "" && by.ServicePrincipal == p.readers.ServicePrincipal &&
		(p.readers.User == "" || by.User == p.readers.User)
}

// needs says whether a selected type is read by an identity.
func (p *plan) needs(identity understudyv1.Identity) bool {
	for _, t := range p.types {
		if p.reader(t) == identity {
			return true
		}
	}
	return false
}

// typeIDs returns the ids of the selected types.
func (p *plan) typeIDs() []string {
	ids := make([]string, len(p.types))
	for i, t := range p.types {
		ids[i] = t.ID
	}
	return ids
}

func unknownType(field, id string, suggestions []string) *SpecError {
	description := fmt.Sprintf("No configuration type is called %q. ListConfigurationTypes lists them.", id)
	if len(suggestions) > 0 {
		description = fmt.Sprintf("No configuration type is called %q. Did you mean %s?", id, strings.Join(suggestions, " or "))
	}
	return &SpecError{Field: field, Description: description, Resource: id}
}
