package catalog

import (
	"slices"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Proto returns the type as the contract shows it. The caller owns the message.
func (t *Type) Proto() *understudyv1.ConfigurationType {
	message := &understudyv1.ConfigurationType{
		Id:               t.ID,
		DisplayName:      t.DisplayName,
		Workload:         t.Workload(),
		Source:           "GET /" + t.Version + t.Path,
		ProbePermissions: slices.Clone(t.Probe),
	}
	for _, requirement := range []struct {
		identity    understudyv1.Identity
		permissions []string
	}{
		{understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, t.ServicePrincipal},
		{understudyv1.Identity_IDENTITY_USER, t.User},
	} {
		if len(requirement.permissions) > 0 {
			message.AccessRequirements = append(message.AccessRequirements, &understudyv1.AccessRequirement{
				Identity:    requirement.identity,
				Permissions: slices.Clone(requirement.permissions),
			})
		}
	}
	return message
}
