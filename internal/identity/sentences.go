package identity

import understudyv1 "understudy.internal/gen/understudy/v1"

// sentence is what is said of a reason: why, and what to do.
type sentence struct {
	text string
	// servicePrincipal and serviceAccount replace text where the reason means
	// something else there.
	servicePrincipal, serviceAccount string
	actor                            understudyv1.RemedyActor
}

func (s sentence) of(w who) string {
	switch {
	case w.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL && s.servicePrincipal != "":
		return s.servicePrincipal
	case w.serviceAccount() && s.serviceAccount != "":
		return s.serviceAccount
	}
	return s.text
}

const (
	user     = understudyv1.RemedyActor_REMEDY_ACTOR_USER
	admin    = understudyv1.RemedyActor_REMEDY_ACTOR_TENANT_ADMINISTRATOR
	operator = understudyv1.RemedyActor_REMEDY_ACTOR_OPERATOR
	nobody   = understudyv1.RemedyActor_REMEDY_ACTOR_NOBODY

	// policyBlocked and the text of SIGN_IN_TIMED_OUT are known to users word for
	// word.
	policyBlocked = "The user is blocked due to a Conditional Access or MFA policy in the tenant. Please exclude the user from the policy."

	workloadPolicy = "A Conditional Access policy for workload identities blocks the application. Let the policy allow it."
	needsPerson    = "The tenant asks for a person to sign in, which a service account cannot do. Use the method `delegated` in the tenant's definition."
)

var sentences = map[understudyv1.AuthFailureReason]sentence{
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT: {
		text: "Authentication timed out waiting for delegated authentication to complete. " +
			"Sync again and complete the steps for authentication.",
		servicePrincipal: "The sign-in service did not answer in time. Sync again later.",
		actor:            user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_DECLINED: {
		text:             "The sign-in was declined. Sync again and approve the sign-in.",
		servicePrincipal: "The sign-in service denied access to the application. Check the application in the tenant.",
		actor:            user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED: {
		text:             "There is no usable sign-in of the user. Sync again, with prompts allowed, and sign in.",
		servicePrincipal: "The tenant asks for a person to sign in, which an application cannot do. Check the application in the tenant.",
		serviceAccount:   needsPerson,
		actor:            user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED: {
		text: policyBlocked, servicePrincipal: workloadPolicy, actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_FLOW_BLOCKED: {
		text:             "The tenant does not allow this way to sign in. Allow the authentication flow for the user, or sign in another way.",
		servicePrincipal: "The tenant does not allow this way to sign in. Let the policy allow it for the application.",
		serviceAccount: "The account cannot sign in with a password alone. " +
			"Use an account whose password Microsoft Entra ID checks itself, or the method `delegated`, in the tenant's definition.",
		actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED: {
		text: policyBlocked, servicePrincipal: workloadPolicy, actor: user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_ENROLLMENT_REQUIRED: {
		text: policyBlocked, servicePrincipal: workloadPolicy, actor: user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_DEVICE_NOT_COMPLIANT: {
		text: "A policy asks for a compliant or managed device, which this service cannot show. " +
			"Let the policy allow the sign-in of this user.",
		servicePrincipal: "A policy asks for a compliant or managed device, which an application does not have. Let the policy allow it.",
		actor:            admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_EXPIRED: {
		text:             "The sign-in has expired. Sync again, with prompts allowed, and sign in.",
		servicePrincipal: "The access of the application has expired. Sync again.",
		serviceAccount:   needsPerson,
		actor:            user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED: {
		text:             "The sign-in was revoked. Sync again, with prompts allowed, and sign in.",
		servicePrincipal: "The access of the application was revoked. Check the application in the tenant, then sync again.",
		serviceAccount:   "The sign-in was revoked. Check the account in the tenant, then sync again.",
		actor:            user,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL: {
		text:             "The user name or password is wrong. Correct it and sync again.",
		servicePrincipal: "The client secret or certificate is wrong. Correct it in the tenant's definition.",
		serviceAccount: "The user name or password is wrong. " +
			"Correct the password in the tenant's definition: one that was refused is not tried again.",
		actor: operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED: {
		text:             "The password has expired. Set a new one and sync again.",
		servicePrincipal: "The client secret or certificate has expired. Make a new one and put it into the tenant's definition.",
		serviceAccount:   "The password has expired. Set a new one and put it into the tenant's definition: the old one is not tried again.",
		actor:            operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_DISABLED: {
		text:             "The account is disabled. Enable it in the tenant.",
		servicePrincipal: "The application is disabled. Enable it in the tenant.",
		actor:            admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_LOCKED: {
		text:             "The account is locked. Wait or unlock it, and find out who uses a wrong password.",
		servicePrincipal: "The sign-in service refuses the address of this service. Check the sign-in log of the tenant.",
		actor:            admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_NOT_FOUND: {
		text: "The account does not exist in this tenant, is a guest, or is another than the definition names. " +
			"Sign in with an account of the tenant, or correct the user name in the tenant's definition.",
		servicePrincipal: "The application is not one of this tenant. Correct directory_id and client_id in the tenant's definition.",
		actor:            operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONSENT_REQUIRED: {
		text: "Consent to the permissions is missing. Grant admin consent for the application in the tenant.", actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INSUFFICIENT_PERMISSIONS: {
		text: "Permissions are missing. Grant them to the application, with admin consent, and to the user the role that they need.", actor: admin,
		servicePrincipal: "Permissions are missing. Grant them to the application, with admin consent.",
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED: {
		text:  "The application is unknown, disabled or misconfigured in the tenant. Check its registration and the tenant's definition.",
		actor: operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_TENANT_NOT_FOUND: {
		text:  "The tenant does not exist in this cloud, or blocks access. Check directory_id and cloud in the tenant's definition.",
		actor: operator,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_RISK_DETECTED: {
		text:  "Microsoft Entra ID Protection holds the sign-in for risky. Review the risk in the tenant, then sync again.",
		actor: admin,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_THROTTLED: {
		text: "The sign-in service asks to wait. Sync again later.", actor: nobody,
	},
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE: {
		text: "The sign-in service could not be reached or failed. Sync again later.", actor: nobody,
	},
}
