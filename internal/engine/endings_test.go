package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TestEndings is the table of endings of docs/architecture.md, a row or more for
// each.
func TestEndings(t *testing.T) {
	const (
		denied      = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
		broken      = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID
		unavailable = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
		blocked     = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED
		revoked     = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED
		expired     = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED
	)
	tests := []struct {
		name  string
		setUp func(s *stage)
		spec  *understudyv1.SyncSpec
		want  []string
		// commits says whether something was committed.
		commits bool
	}{
		{
			name:    "all well",
			commits: true,
			want: []string{
				"started 4", "authenticated SERVICE_PRINCIPAL", "authenticated USER", "committed", "finished SUCCEEDED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
				"print/user-1 CHANGED UNSPECIFIED by USER", "print/user-2 CHANGED UNSPECIFIED by USER",
			},
		},
		{
			name: "not available does not count against it",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(readError(unavailable))
			},
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			commits: true,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "committed", "finished SUCCEEDED",
				"entra/sp-1 NOT_AVAILABLE FEATURE_NOT_AVAILABLE by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "the user fails and the sync goes on",
			setUp: func(s *stage) {
				s.user.refuse(blocked)
				s.user.signIn = after(time.Second, s.user.signIn)
			},
			commits: true,
			want: []string{
				"started 4", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1 print/user-2], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER", "print/user-2 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name:    "the user fails and nothing can be backed up",
			setUp:   func(s *stage) { s.user.refuse(blocked) },
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"print/user-1"}},
			commits: true,
			want: []string{
				"started 1",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1], continues with UNSPECIFIED",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name: "the user is lost in mid-run",
			setUp: func(s *stage) {
				s.sp.signIn = nil
				s.user.signIn = after(time.Second, nil)
				s.source.reads["print/user-2"] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
					return errors.Join(items("a")(ctx, identity, sink), wait(ctx, time.Second), fmt.Errorf("reading: %w", identity.Fail(revoked)))
				}
			},
			commits: true,
			want: []string{
				"started 4", "authenticated SERVICE_PRINCIPAL", "authenticated USER",
				"failed USER SIGN_IN_REVOKED, affects [print/user-2], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
				"print/user-1 CHANGED UNSPECIFIED by USER", "print/user-2 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name: "some types fail or are incomplete",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(readError(denied))
				s.source.reads["entra/sp-2"] = fails(readError(broken), "a")
			},
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2"}},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 FAILED PERMISSION_MISSING by SERVICE_PRINCIPAL", "entra/sp-2 INCOMPLETE RESPONSE_INVALID by SERVICE_PRINCIPAL",
			},
		},
		{
			name:    "a collapsed list is not believed",
			setUp:   func(s *stage) { s.vault.collapse["entra/sp-1"] = true },
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			commits: true,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 INCOMPLETE COUNT_COLLAPSED by SERVICE_PRINCIPAL",
			},
		},
		{
			name:  "a collapse that the caller accepts is believed",
			setUp: func(s *stage) { s.vault.collapse["entra/sp-1"] = true },
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"entra/sp-1"}, AcceptCollapse: []string{"entra/sp-1"},
			},
			commits: true,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "committed", "finished SUCCEEDED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "what was backed up is not believed to be gone",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(readError(unavailable))
				s.source.without = map[string][]string{"entra/sp-2": {"a"}}
				s.vault.collapse["entra/sp-1"], s.vault.collapse["entra/sp-2"] = true, true
			},
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2"}},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 INCOMPLETE FEATURE_NOT_AVAILABLE by SERVICE_PRINCIPAL",
				"entra/sp-2 INCOMPLETE FEATURE_NOT_AVAILABLE by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "that it is gone is confirmed",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(readError(unavailable))
				s.source.without = map[string][]string{"entra/sp-2": {"a"}}
				s.vault.collapse["entra/sp-1"], s.vault.collapse["entra/sp-2"] = true, true
			},
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2"}, AcceptCollapse: []string{"entra/sp-1", "entra/sp-2"},
			},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished SUCCEEDED",
				"entra/sp-1 NOT_AVAILABLE FEATURE_NOT_AVAILABLE by SERVICE_PRINCIPAL", "entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
		{
			name:    "an item that cannot be stored makes its type incomplete",
			setUp:   func(s *stage) { s.source.reads["entra/sp-1"] = items("a", "unstorable", "b") },
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			commits: true,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 INCOMPLETE RESPONSE_INVALID by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "the service principal is lost in mid-run",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-2"] = func(ctx context.Context, identity port.Identity, _ func(port.Item) error) error {
					return errors.Join(wait(ctx, time.Second), identity.Fail(revoked))
				}
			},
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2"}},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL",
				"failed SERVICE_PRINCIPAL SIGN_IN_REVOKED, affects [entra/sp-2], continues with UNSPECIFIED",
				"committed", "finished PARTIALLY_SUCCEEDED SERVICE_PRINCIPAL_LOST",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
				"entra/sp-2 NOT_BACKED_UP SERVICE_PRINCIPAL_NOT_AUTHENTICATED by SERVICE_PRINCIPAL",
			},
		},
		{
			name:  "the time limit is reached",
			setUp: func(s *stage) { s.source.reads["entra/sp-2"] = blocks("a") },
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2"}, Timeout: durationpb.New(time.Minute),
			},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED TIMED_OUT",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 INCOMPLETE INTERRUPTED by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "the time limit is reached while the user is asked to sign in",
			setUp: func(s *stage) {
				s.user.signIn = func(ctx context.Context, options port.SignInOptions) error {
					options.Prompt(&understudyv1.AuthenticationPrompt{UserCode: "ABC", ExpireTime: timestamppb.New(time.Now().Add(time.Hour))})
					<-ctx.Done()
					return context.Cause(ctx)
				}
				s.sp.signIn = nil
			},
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"print/user-1"}, Timeout: durationpb.New(time.Minute),
			},
			commits: true,
			want: []string{
				"started 1", "state PENDING_AUTHENTICATION", "state RUNNING",
				"failed USER SIGN_IN_TIMED_OUT, affects [print/user-1], continues with UNSPECIFIED",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED TIMED_OUT",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name:    "committed, but the push failed",
			setUp:   func(s *stage) { s.vault.pushErr = errors.New("remote text") },
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			commits: true,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED PUSH_FAILED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "causes add up",
			setUp: func(s *stage) {
				s.user.refuse(blocked)
				s.user.signIn = after(time.Second, s.user.signIn)
				s.source.reads["entra/sp-2"] = fails(readError(broken))
				s.vault.pushErr = errors.New("remote text")
			},
			commits: true,
			want: []string{
				"started 4", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1 print/user-2], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED CONFIGURATIONS_FAILED PUSH_FAILED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 FAILED RESPONSE_INVALID by SERVICE_PRINCIPAL",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER", "print/user-2 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name: "the service principal cannot authenticate at the start",
			setUp: func(s *stage) {
				s.sp.refuse(expired)
				s.user.signIn = func(ctx context.Context, _ port.SignInOptions) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}
			},
			want: []string{
				"started 4",
				"failed SERVICE_PRINCIPAL CREDENTIAL_EXPIRED, affects [entra/sp-1 entra/sp-2], continues with UNSPECIFIED",
				"finished FAILED FAILED_PRECONDITION",
			},
		},
		{
			name:  "the policy requires the user, and the user fails",
			setUp: func(s *stage) { s.user.refuse(blocked); s.sp.signIn = after(time.Second, nil) },
			spec: &understudyv1.SyncSpec{
				AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
			},
			want: []string{
				"started 4",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1 print/user-2], continues with UNSPECIFIED",
				"finished FAILED FAILED_PRECONDITION",
			},
		},
		{
			name: "the service principal alone can succeed",
			spec: &understudyv1.SyncSpec{
				AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY,
			},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished SUCCEEDED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
		{
			name:  "the commit fails",
			setUp: func(s *stage) { s.vault.commitErr = errStorage },
			spec:  &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "finished FAILED UNAVAILABLE",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
		{
			name:  "the vault cannot be opened",
			setUp: func(s *stage) { s.vault.beginErr = errors.New("corrupt") },
			want:  []string{"started 4", "finished FAILED FAILED_PRECONDITION"},
		},
		{
			name:  "the disk is full while reading",
			setUp: func(s *stage) { s.source.reads["entra/sp-1"] = items("disk full") },
			spec:  &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			want:  []string{"started 1", "authenticated SERVICE_PRINCIPAL", "finished FAILED UNAVAILABLE"},
		},
		{
			name:  "a bug ends the sync and not the server",
			setUp: func(s *stage) { s.source.reads["entra/sp-1"] = items("panic") },
			spec:  &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			want:  []string{"started 1", "authenticated SERVICE_PRINCIPAL", "finished FAILED INTERNAL"},
		},
		{
			name: "the user is lost in mid-run, and the policy requires it",
			setUp: func(s *stage) {
				s.source.reads["print/user-2"] = func(ctx context.Context, identity port.Identity, _ func(port.Item) error) error {
					return errors.Join(wait(ctx, time.Second), identity.Fail(revoked))
				}
			},
			spec: &understudyv1.SyncSpec{
				AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
			},
			want: []string{
				"started 4", "authenticated SERVICE_PRINCIPAL", "authenticated USER",
				"failed USER SIGN_IN_REVOKED, affects [print/user-2], continues with UNSPECIFIED",
				"finished FAILED FAILED_PRECONDITION",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
				"print/user-1 CHANGED UNSPECIFIED by USER",
			},
		},
		{
			name: "the user fails, and then the service principal is lost",
			setUp: func(s *stage) {
				s.user.refuse(blocked)
				s.user.signIn = after(time.Second, s.user.signIn)
				s.source.reads["entra/sp-2"] = func(ctx context.Context, identity port.Identity, _ func(port.Item) error) error {
					return errors.Join(wait(ctx, time.Minute), identity.Fail(revoked))
				}
			},
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2", "print/user-1"}},
			commits: true,
			want: []string{
				"started 3", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1], continues with SERVICE_PRINCIPAL",
				"failed SERVICE_PRINCIPAL SIGN_IN_REVOKED, affects [entra/sp-2], continues with UNSPECIFIED",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED SERVICE_PRINCIPAL_LOST",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
				"entra/sp-2 NOT_BACKED_UP SERVICE_PRINCIPAL_NOT_AUTHENTICATED by SERVICE_PRINCIPAL",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name: "all causes at once",
			setUp: func(s *stage) {
				s.user.signIn = func(ctx context.Context, _ port.SignInOptions) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}
				s.source.reads["entra/sp-1"] = fails(readError(broken))
				s.source.reads["entra/sp-2"] = func(ctx context.Context, identity port.Identity, _ func(port.Item) error) error {
					return errors.Join(wait(ctx, time.Second), identity.Fail(revoked))
				}
				s.vault.pushErr = errors.New("remote text")
			},
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2", "print/user-1"}, Timeout: durationpb.New(time.Minute),
			},
			commits: true,
			want: []string{
				"started 3", "authenticated SERVICE_PRINCIPAL",
				"failed SERVICE_PRINCIPAL SIGN_IN_REVOKED, affects [entra/sp-2], continues with USER",
				"failed USER SIGN_IN_TIMED_OUT, affects [print/user-1], continues with UNSPECIFIED",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED CONFIGURATIONS_FAILED " +
					"SERVICE_PRINCIPAL_LOST TIMED_OUT PUSH_FAILED",
				"entra/sp-1 FAILED RESPONSE_INVALID by SERVICE_PRINCIPAL",
				"entra/sp-2 NOT_BACKED_UP SERVICE_PRINCIPAL_NOT_AUTHENTICATED by SERVICE_PRINCIPAL",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name:  "the time limit is reached before anything of a type was read",
			setUp: func(s *stage) { s.source.reads["entra/sp-2"] = blocks() },
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"entra/sp-1", "entra/sp-2"}, Timeout: durationpb.New(time.Minute),
			},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED TIMED_OUT",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "entra/sp-2 FAILED INTERRUPTED by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "the time limit is reached while the service principal signs in",
			setUp: func(s *stage) {
				s.sp.signIn = func(ctx context.Context, _ port.SignInOptions) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}
			},
			spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}, Timeout: durationpb.New(time.Minute)},
			want: []string{
				"started 1", "failed SERVICE_PRINCIPAL SIGN_IN_TIMED_OUT, affects [entra/sp-1], continues with UNSPECIFIED",
				"finished FAILED FAILED_PRECONDITION",
			},
		},
		{
			name: "a commit that is longer than the time limit is no time-out",
			setUp: func(s *stage) {
				s.user.refuse(blocked)
				s.user.signIn = after(time.Second, s.user.signIn)
				s.vault.onCommit = func() { <-time.After(2 * time.Minute) }
			},
			spec: &understudyv1.SyncSpec{
				ConfigurationTypes: []string{"entra/sp-1", "print/user-1"}, Timeout: durationpb.New(time.Minute),
			},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name: "only the user is let in, and the user fails",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(&port.ReadError{Reason: denied, NeedsUser: true})
				s.user.refuse(blocked)
				s.user.signIn = after(time.Second, s.user.signIn)
			},
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1", "print/user-1"}},
			commits: true,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [entra/sp-1 print/user-1], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"entra/sp-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER", "print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name:    "only the user is let in, and the sync does not use the user",
			setUp:   func(s *stage) { s.source.reads["entra/sp-1"] = fails(&port.ReadError{Reason: denied, NeedsUser: true}) },
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			commits: true,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 FAILED PERMISSION_MISSING by SERVICE_PRINCIPAL",
			},
		},
		{
			name:  "an error that no port may return is a bug",
			setUp: func(s *stage) { s.source.reads["entra/sp-1"] = fails(errors.New("what is this")) },
			spec:  &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}},
			want:  []string{"started 1", "authenticated SERVICE_PRINCIPAL", "finished FAILED INTERNAL"},
		},
		{
			name: "a dry run says what a sync would have said",
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(readError(broken))
				s.vault.pushErr = errors.New("a dry run does not push")
			},
			spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}, DryRun: true},
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 FAILED RESPONSE_INVALID by SERVICE_PRINCIPAL",
			},
		},
		{
			name:    "a dry run commits nothing",
			spec:    &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}, DryRun: true},
			commits: false,
			want: []string{
				"started 1", "authenticated SERVICE_PRINCIPAL", "finished SUCCEEDED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.user.signIn = after(time.Millisecond, nil) // a fixed order of events
				if test.setUp != nil {
					test.setUp(s)
				}
				s.run()
				log := s.start(test.spec)
				final := s.finished(log)
				if diff := cmp.Diff(test.want, summary(log.stored())); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if got := final.GetSnapshot() != nil; got != test.commits {
					t.Errorf("snapshot = %v, want one: %v", final.GetSnapshot(), test.commits)
				}
				if got := len(s.vault.backup) > 0; got && !test.commits {
					t.Errorf("the backup was touched: %v", s.vault.backup)
				}
				s.checkReadings(log)
				if failure := failureIn(t, final.GetError()); failure != nil && failure.GetAffectedCount() < 1 {
					t.Errorf("the failure of the sync affects %d types", failure.GetAffectedCount())
				}
				s.checkCommitting(log)
				if n := count(log, commits); n > 0 && test.spec.GetDryRun() {
					t.Error("a dry run says that it commits")
				}
				if got, want := final.GetLastSequence(), int64(len(log.stored())); got != want {
					t.Errorf("last_sequence of the final sync = %d, want %d", got, want)
				}
				s.stop()
				<-s.done
			})
		})
	}
}
