package engine

import (
	"fmt"
	"strings"
	"unicode/utf8"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// failureText says why a type was not backed up completely: what happened and why,
// then what to do.
type failureText struct {
	// what is used where the reading has no detail that says it better.
	what   string
	remedy string
	// fixed says that no detail says it better.
	fixed bool
}

var failureTexts = map[understudyv1.ConfigurationFailureReason]failureText{
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED: {
		what: "The tenant asked to wait, at every attempt.", remedy: "Sync again later.", fixed: true,
	},
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE: {
		what: "Microsoft Graph could not be reached, or answered with server errors.", remedy: "Sync again later.",
	},
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID: {
		what: "The answer of Microsoft Graph cannot be used.", remedy: "Sync again; if it stays so, see the help on this reason.",
	},
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED: {
		what: "The list is so much shorter than the backup that it is not believed yet.",
		remedy: "If the items were removed on purpose, sync again with accept_collapse, or wait: " +
			"a later sync that reads the same accepts it.",
		fixed: true,
	},
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE: {
		what: "The tenant does not have this feature, or no licence for it.", remedy: "If it should, check its licences.", fixed: true,
	},
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED: {
		what: "The sync ended before this was read.", remedy: "Sync again.",
	},
}

// failureMessage is the message of a result's error. The detail is what the reading
// says; the failure is set where an identity lacks a permission.
func failureMessage(
	reason understudyv1.ConfigurationFailureReason, detail string, failure *understudyv1.AuthFailure,
) string {
	text := failureTexts[reason]
	switch {
	case detail == userOnlyDetail:
		text.remedy = "Let the sync use the user, or leave the configuration type out."
	case detail == vanishedDetail:
		text.remedy = "If it was removed on purpose, sync again with accept_collapse; if not, see the help on this reason."
		text.fixed = false
	case detail == filterRefusedDetail:
		text.remedy = "Mend or remove the filter in the tenant's definition, then sync again."
	case reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING:
		text = permissionText(failure)
	}
	if detail != "" && !text.fixed {
		text.what = sentence(detail)
	}
	return text.what + " " + text.remedy + " The previous content is kept."
}

// userOnlyDetail is the detail of a type that the service principal was refused
// because only a user is let in.
const userOnlyDetail = "only the user can read this: Microsoft Graph refuses application-only access"

// filterRefusedDetail is the detail of a type whose list was refused with a filter
// of the tenant's definition, which is the likely reason.
const filterRefusedDetail = "Microsoft Graph refused the list with the filter that the tenant's definition has for it"

// vanishedDetail is the detail of a type that the tenant says it does not have, in part
// or at all, although it was backed up before.
const vanishedDetail = "the tenant says that this, or a part of it, does not exist here any more, although it was backed up before"

// permissionText names what the identity may lack. Microsoft Graph does not say
// which of it is missing.
func permissionText(failure *understudyv1.AuthFailure) failureText {
	who := "service principal"
	if failure.GetIdentity() == understudyv1.Identity_IDENTITY_USER {
		who = "user"
	}
	missing := "a permission"
	switch names := failure.GetMissingPermissions(); len(names) {
	case 0:
	case 1:
		missing = "the permission " + names[0]
	default:
		missing = "one of the permissions " + strings.Join(names, ", ")
	}
	return failureText{
		fixed:  true,
		what:   fmt.Sprintf("The %s may not read this: %s is missing, or a directory role.", who, missing),
		remedy: "Grant it with admin consent, then sync again.",
	}
}

// sentence makes a sentence of a detail.
func sentence(detail string) string {
	_, size := utf8.DecodeRuneInString(detail)
	return strings.ToUpper(detail[:size]) + detail[size:] + "."
}
