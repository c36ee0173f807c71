package identity

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Failure says why an identity has no access. It implements [port.AuthError], and
// holds nothing secret and nothing that the provider wrote.
type Failure struct{ failure *understudyv1.AuthFailure }

var _ port.AuthError = (*Failure)(nil)

// Error implements error.
func (f *Failure) Error() string {
	text := f.failure.GetReason().String()
	if code := f.failure.GetProviderErrorCode(); code != "" {
		text += " (" + code + ")"
	}
	return text
}

// AuthFailure implements [port.AuthError].
func (f *Failure) AuthFailure() *understudyv1.AuthFailure { return proto.CloneOf(f.failure) }

// LogValue implements slog.LogValuer.
func (f *Failure) LogValue() slog.Value { return slog.StringValue(f.Error()) }

// HelpPage returns the name of the help page of a reason:
// `conditional-access-blocked`.
func HelpPage(reason understudyv1.AuthFailureReason) string {
	name := strings.TrimPrefix(reason.String(), "AUTH_FAILURE_REASON_")
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// who describes the identity that failed.
type who struct {
	identity understudyv1.Identity
	method   understudyv1.AuthenticationMethod
	helpBase string
	// tenant is the name of the tenant for `understudy forget`.
	tenant string
	// lost says that it was authenticated in this sync.
	lost bool
}

// attended says that a person signs in.
func (w who) attended() bool {
	return w.method == understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CACHED_SIGN_IN ||
		w.method == understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE
}

func (w who) serviceAccount() bool {
	return w.method == understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_USERNAME_PASSWORD
}

// verdict is what a classification found.
type verdict struct {
	meaning
	answer  answer
	missing []string
	// untried says that it was the last time so, and that nothing was tried now.
	untried bool
}

// standard is the verdict of a reason of which nothing more is known.
func (w who) standard(reason understudyv1.AuthFailureReason) verdict {
	m := meaning{reason: reason, actor: sentences[reason].actor, retryable: sentences[reason].actor == nobody}
	if reason == timedOutReason && w.method != understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE {
		m.actor, m.retryable = nobody, true // no person was late
	}
	return verdict{meaning: m}
}

// minRetryDelay is the least that is told to wait.
const minRetryDelay = time.Minute

func (w who) failure(v verdict) *Failure {
	a := v.answer
	f := &understudyv1.AuthFailure{
		Identity: w.identity, Method: w.method, Reason: v.reason, RemedyActor: w.actor(v), Retryable: v.retryable,
		MissingPermissions: v.missing, FailureTime: timestamppb.Now(), Message: w.message(v),
		OauthError: a.oauth, OauthSuberror: a.suberror, CorrelationId: a.correlation, TraceId: a.trace,
		ProviderErrorCode: providerCode(a.codes),
	}
	if v.retryable {
		f.RetryDelay = durationpb.New(max(a.retryAfter, minRetryDelay))
	}
	if w.helpBase != "" {
		f.HelpUri = strings.TrimSuffix(w.helpBase, "/") + "/" + HelpPage(v.reason)
	}
	return &Failure{f}
}

// providerCode names the code that decided, or the first when none is listed.
func providerCode(numbers []int) string {
	for _, n := range numbers {
		if _, ok := codes()[n]; ok {
			return fmt.Sprintf("AADSTS%d", n)
		}
	}
	if len(numbers) > 0 {
		return fmt.Sprintf("AADSTS%d", numbers[0])
	}
	return ""
}

// actor says who can mend a failure. No person signs in where there is none: what
// a policy asks of a service account is a matter of the policy, all else of the
// tenant's definition.
func (w who) actor(v verdict) understudyv1.RemedyActor {
	switch {
	case v.actor == understudyv1.RemedyActor_REMEDY_ACTOR_UNSPECIFIED:
		return sentences[v.reason].actor
	case v.actor != user || w.attended():
		return v.actor
	}
	switch v.reason {
	case understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_ENROLLMENT_REQUIRED,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_DEVICE_NOT_COMPLIANT,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED:
		return admin
	}
	return operator
}

// message is what a person reads: what failed – why – what to do. What it means
// for the backup.
func (w who) message(v verdict) string {
	what := "User authentication failed - "
	meaning := "Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully."
	if w.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL {
		what = "Service principal authentication failed - "
		meaning = "The Sync could not start; the previous backup is unchanged."
		if w.lost {
			meaning = "Configurations that were not read by then are not in this backup; their previous backup is unchanged."
		}
	}
	return what + w.sentence(v) + named(v.missing) + " " + meaning
}

// sentence is why it failed, and what to do.
func (w who) sentence(v verdict) string {
	if !v.untried {
		return sentences[v.reason].of(w)
	}
	was := "was refused as wrong"
	if v.reason == understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED {
		was = "was refused as expired"
	}
	return "The password was not tried now: it " + was + " by an earlier sign-in, and trying it again can lock the account. " +
		"Put a new one into the tenant's definition; if it is right after all, run `understudy forget sign-in " + w.tenant + " --config FILE`, and sync again."
}

// maxNamed is how many permissions a message names.
const maxNamed = 5

func named(permissions []string) string {
	switch n := len(permissions); {
	case n == 0:
		return ""
	case n > maxNamed:
		return fmt.Sprintf(" Missing: %s and %d more.", strings.Join(permissions[:maxNamed], ", "), n-maxNamed)
	}
	return " Missing: " + strings.Join(permissions, ", ") + "."
}
