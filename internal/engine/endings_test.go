package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

const tenantName = "tenants/contoso"

// stage is an engine with fakes around it.
type stage struct {
	t      *testing.T
	sp     *fakeIdentity
	user   *fakeIdentity
	source *fakeSource
	vault  *fakeVault
	syncs  *fakeSyncs
	tenant *engine.Tenant
	engine *engine.Engine
	stop   context.CancelFunc
	done   chan struct{}
}

// newStage makes an engine of a tenant with two types for the service principal
// (entra/sp-1, entra/sp-2) and two for the user (print/user-1, print/user-2).
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{
		t:      t,
		sp:     &fakeIdentity{identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL},
		user:   &fakeIdentity{identity: understudyv1.Identity_IDENTITY_USER},
		source: &fakeSource{reads: map[string]readFunc{}},
		vault:  &fakeVault{backup: map[string][]string{}, collapse: map[string]bool{}},
		syncs:  &fakeSyncs{logs: map[string]*fakeLog{}},
	}
	s.tenant = &engine.Tenant{
		Name:               tenantName,
		ConfigurationTypes: []string{"*"},
		Policy:             understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_CONTINUE_WITHOUT_USER,
		AllowPrompt:        true,
		ServicePrincipal:   s.sp,
		User:               s.user,
		Source:             s.source,
		Vault:              s.vault,
	}
	e, err := engine.New(engine.Config{
		Tenants: &fakeTenants{s.tenant},
		Catalog: &fakeCatalog{[]*catalog.Type{
			{ID: "entra/sp-1", ServicePrincipal: []string{"A.Read.All"}, User: []string{"A.Read.All"}},
			{ID: "entra/sp-2", ServicePrincipal: []string{"B.Read.All"}},
			{ID: "print/user-1", User: []string{"C.Read.All"}},
			{ID: "print/user-2", User: []string{"D.Read.All"}},
		}},
		Syncs:              s.syncs,
		MaxConcurrentSyncs: 1,
		MaxQueuedSyncs:     2,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.engine = e
	return s
}

// run lets the engine work until the test ends.
func (s *stage) run() {
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop, s.done = stop, make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.engine.Run(ctx)
	}()
	s.t.Cleanup(func() {
		stop()
		<-s.done
	})
}

func (s *stage) start(spec *understudyv1.SyncSpec) *fakeLog {
	s.t.Helper()
	sync, err := s.engine.Start(s.t.Context(), engine.StartRequest{Tenant: tenantName, Spec: spec})
	if err != nil {
		s.t.Fatalf("Start: %v", err)
	}
	return s.logOf(sync.GetName())
}

func (s *stage) logOf(name string) *fakeLog {
	s.t.Helper()
	log, err := s.syncs.log(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return log
}

// finished waits for the end of a sync and returns it.
func (s *stage) finished(log *fakeLog) *understudyv1.Sync {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), waitLimit)
	defer cancel()
	if !log.until(ctx, func(e *understudyv1.SyncEvent) bool { return e.GetFinished() != nil }) {
		s.t.Fatalf("the sync did not finish; events:\n%s", strings.Join(summary(log.stored()), "\n"))
	}
	return log.Sync()
}

// summary says each event in a line, results in the order of their types.
func summary(events []*understudyv1.SyncEvent) []string {
	var lines, results []string
	for _, event := range events {
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_Started:
			lines = append(lines, fmt.Sprintf("started %d", len(e.Started.GetConfigurationTypes())))
		case *understudyv1.SyncEvent_StateChanged:
			lines = append(lines, "state "+short(e.StateChanged.GetState(), "SYNC_STATE_"))
		case *understudyv1.SyncEvent_AuthenticationSucceeded:
			lines = append(lines, "authenticated "+short(e.AuthenticationSucceeded.GetIdentity(), "IDENTITY_"))
		case *understudyv1.SyncEvent_AuthenticationFailed:
			f := e.AuthenticationFailed
			lines = append(lines, fmt.Sprintf("failed %s %s, affects %v, continues with %s",
				short(f.GetFailure().GetIdentity(), "IDENTITY_"), short(f.GetFailure().GetReason(), "AUTH_FAILURE_REASON_"),
				f.GetFailure().GetAffectedConfigurationTypes(), short(f.GetContinuesWith(), "IDENTITY_")))
		case *understudyv1.SyncEvent_ConfigurationCompleted:
			r := e.ConfigurationCompleted.GetResult()
			results = append(results, fmt.Sprintf("%s %s %s by %s", r.GetConfigurationType(),
				short(r.GetOutcome(), "CONFIGURATION_OUTCOME_"), short(r.GetReason(), "CONFIGURATION_FAILURE_REASON_"),
				short(r.GetIdentity(), "IDENTITY_")))
		case *understudyv1.SyncEvent_SnapshotCommitted:
			lines = append(lines, "committed")
		case *understudyv1.SyncEvent_Finished:
			s := e.Finished.GetSync()
			line := "finished " + short(s.GetState(), "SYNC_STATE_")
			for _, cause := range s.GetPartialCauses() {
				line += " " + short(cause, "PARTIAL_CAUSE_")
			}
			if s.GetError() != nil {
				line += " " + code.Code(s.GetError().GetCode()).String()
			}
			lines = append(lines, line)
		}
	}
	return append(lines, sorted(results)...)
}

func short(value fmt.Stringer, prefix string) string {
	return strings.TrimPrefix(value.String(), prefix)
}

var errStorage = &port.StorageError{Err: errors.New("no space left")}

func readError(reason understudyv1.ConfigurationFailureReason) *port.ReadError {
	return &port.ReadError{Reason: reason, Operation: "GET /v1.0/x", Detail: "a detail"}
}

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
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1], continues with SERVICE_PRINCIPAL",
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
				"failed SERVICE_PRINCIPAL SIGN_IN_REVOKED, affects [entra/sp-2], continues with USER",
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
				"failed USER SIGN_IN_TIMED_OUT, affects [print/user-1], continues with SERVICE_PRINCIPAL",
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
				if got, want := final.GetLastSequence(), int64(len(log.stored())); got != want {
					t.Errorf("last_sequence of the final sync = %d, want %d", got, want)
				}
				s.stop()
				<-s.done
			})
		})
	}
}

// after delays a sign-in.
func after(
	delay time.Duration, then func(context.Context, port.SignInOptions) error,
) func(context.Context, port.SignInOptions) error {
	return func(ctx context.Context, options port.SignInOptions) error {
		if err := wait(ctx, delay); err != nil || then == nil {
			return err
		}
		return then(ctx, options)
	}
}

func wait(ctx context.Context, delay time.Duration) error {
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
