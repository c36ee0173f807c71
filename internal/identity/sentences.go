package identity

import understudyv1 "understudy.internal/gen/understudy/v1"

// sentence is what is said of a reason: why, and what to do.
type sentence struct {
	text string
	// servicePrincipal replaces text where the reason means something else there.
	servicePrincipal string
	actor            understudyv1.RemedyActor
}

const (
	user     = understudyv1.RemedyActor_REMEDY_ACTOR_USER
	admin    = understudyv1.RemedyActor_REMEDY_ACTOR_TENANT_ADMINISTRATOR
	operator = understudyv1.RemedyActor_REMEDY_ACTOR_OPERATOR
	nobody   = understudyv1.RemedyActor_REMEDY_ACTOR_NOBODY

	// policyBlocked is known to users word for word.
	policyBlocked = "The user is blocked due to a Conditional Access or MFA policy in the tenant. Please exclude the user from the policy."
)

var sentences = map[understudyv1.AuthFailureReason]sentence{
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT: {
		text: "Authentication timed out waiting for delegated authentication to complete. " +
			"Sync again and complete the steps for authentication.",
		servicePrincipal: "The sign-in service did not answer in time. Sync again later.",
		actor:            user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_DECLINED: {
		text: "The sign-in was declined. Sync again and approve the sign-in.", actor: user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED: {
		text: "There is no usable sign-in, and the Sync may not ask a person. Sync again with prompts allowed and sign in.", actor: user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED: {
		text: policyBlocked, actor: admin,
		servicePrincipal: "A Conditional Access policy for workload identities blocks the application. Let the policy allow it.",
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_FLOW_BLOCKED: {
		text: "The tenant blocks this way to sign in. Allow the authentication flow for the user, or sign in another way.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED:            {text: policyBlocked, actor: user},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_ENROLLMENT_REQUIRED: {text: policyBlocked, actor: user},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_DEVICE_NOT_COMPLIANT: {
		text: "A policy asks for a compliant or managed device. Sign in from such a device, or change the policy.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_EXPIRED: {
		text: "The cached sign-in has expired. Sync again and sign in.", actor: user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED: {
		text: "The sign-in was revoked. Sync again and sign in.", actor: user,
		servicePrincipal: "The access of the application was revoked. Check the application in the tenant, then sync again.",
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL: {
		text:             "The user name or password is wrong. Correct it in the tenant's definition; a refused password is not tried again.",
		servicePrincipal: "The client secret or certificate is wrong. Correct it in the tenant's definition.",
		actor:            operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED: {
		text:             "The password has expired. Set a new one and put it into the tenant's definition.",
		servicePrincipal: "The client secret or certificate has expired. Make a new one and put it into the tenant's definition.",
		actor:            operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_DISABLED: {
		text: "The account is disabled. Enable it in the tenant.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_LOCKED: {
		text: "The account is locked. Wait or unlock it, and check who uses a wrong password.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_NOT_FOUND: {
		text: "The account does not exist in this tenant, or is another one. Correct the user name in the tenant's definition.", actor: operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONSENT_REQUIRED: {
		text: "Consent to the permissions is missing. Grant admin consent for the application.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INSUFFICIENT_PERMISSIONS: {
		text: "Permissions are missing. Grant them to the application, with admin consent.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED: {
		text: "The application is unknown, disabled or misconfigured in the tenant. Check its registration and the tenant's definition.", actor: operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_TENANT_NOT_FOUND: {
		text: "The tenant does not exist in this cloud, or blocks access. Check directory_id and cloud in the tenant's definition.", actor: operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_RISK_DETECTED: {
		text: "Microsoft Entra ID Protection holds the sign-in for risky. Review the risk in the tenant, then sync again.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_THROTTLED: {
		text: "The sign-in service asks to wait. Sync again later.", actor: nobody,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE: {
		text: "The sign-in service could not be reached or failed. Sync again later.", actor: nobody,
	},
}
