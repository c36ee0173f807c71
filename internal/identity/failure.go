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
	// lost says that it was authenticated in this sync.
	lost bool
}

// verdict is what a classification found.
type verdict struct {
	reason     understudyv1.AuthFailureReason
	actor      understudyv1.RemedyActor
	retryable  bool
	retryDelay time.Duration
	exchange   *exchange
	missing    []string
}

func (w who) failure(v verdict) *Failure {
	f := &understudyv1.AuthFailure{
		Identity: w.identity, Method: w.method, Reason: v.reason, RemedyActor: v.actor, Retryable: v.retryable,
		MissingPermissions: v.missing, FailureTime: timestamppb.Now(),
	}
	if f.GetRemedyActor() == understudyv1.RemedyActor_REMEDY_ACTOR_UNSPECIFIED {
		f.RemedyActor = sentences[v.reason].actor
	}
	if v.retryable {
		f.RetryDelay = durationpb.New(max(v.retryDelay, time.Minute))
	}
	if w.helpBase != "" {
		f.HelpUri = strings.TrimSuffix(w.helpBase, "/") + "/" + HelpPage(v.reason)
	}
	if x := v.exchange; x != nil {
		x.mu.Lock()
		f.OauthError, f.OauthSuberror, f.CorrelationId, f.TraceId = x.oauth, x.suberror, x.correlation, x.trace
		if len(x.codes) > 0 {
			f.ProviderErrorCode = fmt.Sprintf("AADSTS%d", x.codes[0])
		}
		x.mu.Unlock()
	}
	f.Message = w.message(v)
	return &Failure{f}
}

// message is what a person reads: what failed – why – what to do. What it means
// for the backup.
func (w who) message(v verdict) string {
	s := sentences[v.reason]
	text := s.text
	if w.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL && s.servicePrincipal != "" {
		text = s.servicePrincipal
	}
	if len(v.missing) > 0 {
		text = strings.TrimSuffix(text, ".") + ": " + strings.Join(v.missing, ", ") + "."
	}
	switch {
	case w.identity == understudyv1.Identity_IDENTITY_USER:
		return "User authentication failed - " + text +
			" Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully."
	case w.lost:
		return "Service principal authentication failed - " + text +
			" Configurations that were not read by then are not in this backup; their previous backup is unchanged."
	}
	return "Service principal authentication failed - " + text + " The Sync could not start; the previous backup is unchanged."
}
