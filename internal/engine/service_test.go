package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}

// TestServicePrincipalDoesNotWait: rule 2. The service principal's types are done
// while the user is still being asked.
func TestServicePrincipalDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.user.signIn = after(time.Hour/2, nil)
		s.run()
		begin := time.Now()
		log := s.start(nil)
		done := 0
		log.until(t.Context(), func(e *understudyv1.SyncEvent) bool {
			if e.GetConfigurationCompleted().GetResult().GetIdentity() == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL {
				done++
			}
			return done == 2
		})
		if waited := time.Since(begin); waited > time.Second {
			t.Errorf("the service principal's types took %v", waited)
		}
		s.finished(log)
		s.stop()
		<-s.done
	})
}

// TestUserIsNotSignedInWhenNotNeeded: rule 1.
func TestUserIsNotSignedInWhenNotNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.user.refuse(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_DISABLED)
		s.run()
		final := s.finished(s.start(&understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-1"}}))
		if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || s.user.signIns != 0 {
			t.Errorf("state %v after %d sign-ins of the user", final.GetState(), s.user.signIns)
		}
		if got := final.GetIdentities()[1].GetState(); got != understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED {
			t.Errorf("the user is %v", got)
		}
		s.stop()
		<-s.done
	})
}

// TestNeedsUser: where the source refuses application-only access, the user reads
// in the same sync.
func TestNeedsUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.source.reads["entra/sp-1"] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
			if identity == port.Identity(s.sp) {
				return &port.ReadError{
					Reason:    understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING,
					NeedsUser: true,
				}
			}
			return items("a")(ctx, identity, sink)
		}
		s.run()
		log := s.start(nil)
		if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
			t.Errorf("state = %v", final.GetState())
		}
		want := "entra/sp-1 CHANGED UNSPECIFIED by USER"
		if got := summary(log.stored()); !slices.Contains(got, want) {
			t.Errorf("no %q in %v", want, got)
		}
		s.stop()
		<-s.done
	})
}

// TestFailureNamesPermission: the operator reads which permission to grant.
func TestFailureNamesPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.source.reads["entra/sp-2"] = fails(readError(
			understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING))
		s.run()
		log := s.start(&understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-2"}})
		s.finished(log)
		var failure understudyv1.AuthFailure
		var info errdetails.ErrorInfo
		for _, event := range log.stored() {
			for _, detail := range event.GetConfigurationCompleted().GetResult().GetError().GetDetails() {
				_ = detail.UnmarshalTo(&failure)
				_ = detail.UnmarshalTo(&info)
			}
		}
		if diff := cmp.Diff([]string{"B.Read.All"}, failure.GetMissingPermissions()); diff != "" {
			t.Error(diff)
		}
		if info.GetReason() != "ERROR_REASON_CONFIGURATION_NOT_BACKED_UP" || info.GetDomain() != "understudy.internal" {
			t.Errorf("ErrorInfo = %v", &info)
		}
		s.stop()
		<-s.done
	})
}

// TestRetry: only what was missing is retried, and a retried sync says so.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.user.refuse(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT)
		s.run()
		first := s.finished(s.start(nil))
		s.user.signIn = nil
		retried, err := s.engine.Retry(t.Context(), engine.RetryRequest{Sync: first.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"print/user-1", "print/user-2"}, sorted(retried.GetSpec().GetConfigurationTypes())); diff != "" {
			t.Error(diff)
		}
		second := s.finished(s.logOf(retried.GetName()))
		if second.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || second.GetRetriedSync() != first.GetName() ||
			second.GetTrigger() != understudyv1.Trigger_TRIGGER_RETRY {
			t.Errorf("retried sync = %v", second)
		}
		_, err = s.engine.Retry(t.Context(), engine.RetryRequest{Sync: second.GetName()})
		if nothing := (*engine.NothingToRetryError)(nil); !errors.As(err, &nothing) {
			t.Errorf("retrying a sync that succeeded: %v", err)
		}
		s.stop()
		<-s.done
	})
}

// TestRetryOfFailedSync: a sync that committed nothing left everything.
func TestRetryOfFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.vault.commitErr = errStorage
		s.run()
		first := s.finished(s.start(nil))
		s.vault.commitErr = nil
		retried, err := s.engine.Retry(t.Context(), engine.RetryRequest{Sync: first.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(retried.GetSpec().GetConfigurationTypes()); got != 4 {
			t.Errorf("%d types are retried, want 4", got)
		}
		s.finished(s.logOf(retried.GetName()))
		s.stop()
		<-s.done
	})
}

// TestCancel cancels a sync at each point of its life.
func TestCancel(t *testing.T) {
	t.Run("queued", func(t *testing.T) {
		s := newStage(t) // nobody runs it
		log := s.start(nil)
		got, err := s.engine.Cancel(t.Context(), log.Sync().GetName())
		if err != nil || got.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED {
			t.Errorf("Cancel = %v, %v", got.GetState(), err)
		}
	})
	t.Run("waiting for the user", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			s.user.signIn = func(ctx context.Context, options port.SignInOptions) error {
				options.Prompt(&understudyv1.AuthenticationPrompt{UserCode: "ABC", ExpireTime: timestamppb.Now()})
				<-ctx.Done()
				return context.Cause(ctx)
			}
			s.run()
			log := s.start(nil)
			log.until(t.Context(), func(e *understudyv1.SyncEvent) bool { return e.GetStateChanged() != nil })
			got, err := s.engine.Cancel(t.Context(), log.Sync().GetName())
			if err != nil {
				t.Fatal(err)
			}
			if state := got.GetState(); state != understudyv1.SyncState_SYNC_STATE_CANCELLING &&
				state != understudyv1.SyncState_SYNC_STATE_CANCELLED {
				t.Errorf("Cancel = %v", state)
			}
			final := s.finished(log)
			if final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED || len(s.vault.commits) > 0 {
				t.Errorf("state = %v after %d commits", final.GetState(), len(s.vault.commits))
			}
			if _, err := s.engine.Cancel(t.Context(), final.GetName()); err != nil {
				t.Errorf("cancelling again: %v", err)
			}
			s.stop()
			<-s.done
		})
	})
	t.Run("reading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			s.source.reads["entra/sp-1"] = blocks("a")
			s.run()
			log := s.start(nil)
			log.until(t.Context(), func(e *understudyv1.SyncEvent) bool { return e.GetConfigurationCompleted() != nil })
			if _, err := s.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
				t.Fatal(err)
			}
			final := s.finished(log)
			if final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED || len(s.vault.commits) > 0 || final.GetSnapshot() != nil {
				t.Errorf("state = %v after %d commits", final.GetState(), len(s.vault.commits))
			}
			if result, ok := s.vault.readings["entra/sp-1"]; ok {
				t.Errorf("an interrupted type was settled: %v", result)
			}
			s.stop()
			<-s.done
		})
	})
	t.Run("committing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			committing, proceed := make(chan struct{}), make(chan struct{})
			s.vault.onCommit = func() { close(committing); <-proceed }
			s.run()
			log := s.start(nil)
			<-committing
			_, err := s.engine.Cancel(t.Context(), log.Sync().GetName())
			if finished := (*port.SyncFinishedError)(nil); !errors.As(err, &finished) {
				t.Errorf("Cancel while committing: %v", err)
			}
			close(proceed)
			if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
				t.Errorf("state = %v", final.GetState())
			}
			s.stop()
			<-s.done
		})
	})
	t.Run("finished", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			s.run()
			final := s.finished(s.start(nil))
			_, err := s.engine.Cancel(t.Context(), final.GetName())
			if finished := (*port.SyncFinishedError)(nil); !errors.As(err, &finished) {
				t.Errorf("Cancel of a finished sync: %v", err)
			}
			s.stop()
			<-s.done
		})
	})
}

// TestStartRefusals: bad input gets a typed error, and nothing is recorded.
func TestStartRefusals(t *testing.T) {
	const (
		only    = understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY
		require = understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER
	)
	tests := []struct {
		name  string
		setUp func(s *stage)
		spec  *understudyv1.SyncSpec
		field string
	}{
		{name: "unknown type", spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"*", "entra/x"}}, field: "configuration_types[1]"},
		{name: "unknown collapse", spec: &understudyv1.SyncSpec{AcceptCollapse: []string{"entra/x"}}, field: "accept_collapse[0]"},
		{
			name: "user type without the user", field: "configuration_types[0]",
			spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"print/user-1"}, AuthenticationPolicy: only},
		},
		{
			name: "user required where there is none", field: "authentication_policy",
			setUp: func(s *stage) { s.tenant.User = nil }, spec: &understudyv1.SyncSpec{AuthenticationPolicy: require},
		},
		{
			name: "nothing selected", field: "configuration_types",
			setUp: func(s *stage) { s.tenant.User, s.tenant.ConfigurationTypes = nil, []string{"print/user-1"} },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			if test.setUp != nil {
				test.setUp(s)
			}
			_, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName, Spec: test.spec})
			var spec *engine.SpecError
			if !errors.As(err, &spec) || spec.Field != test.field {
				t.Errorf("Start = %v, want a SpecError of %s", err, test.field)
			}
			if len(s.syncs.order) > 0 {
				t.Error("a sync was recorded")
			}
		})
	}
	t.Run("unknown tenant", func(t *testing.T) {
		_, err := newStage(t).engine.Start(t.Context(), engine.StartRequest{Tenant: "tenants/x"})
		if unknown := (*port.NotFoundError)(nil); !errors.As(err, &unknown) {
			t.Errorf("Start = %v", err)
		}
	})
	t.Run("a full queue", func(t *testing.T) {
		s := newStage(t)
		for i := range 3 {
			_, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName})
			limit := (*engine.LimitError)(nil)
			if full := errors.As(err, &limit); full != (i == 2) {
				t.Errorf("Start %d = %v", i, err)
			}
			for _, log := range s.syncs.logs {
				log.request.Tenant = "tenants/somebody-else" // waits, and does not hold the tenant
			}
		}
	})
	t.Run("two at once", func(t *testing.T) {
		s := newStage(t)
		log := s.start(nil)
		_, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName})
		running := (*port.SyncRunningError)(nil)
		if !errors.As(err, &running) || running.Sync != log.Sync().GetName() {
			t.Errorf("Start = %v", err)
		}
	})
	t.Run("request id", func(t *testing.T) {
		s := newStage(t)
		request := engine.StartRequest{Tenant: tenantName, RequestID: "one"}
		first, err := s.engine.Start(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		second, err := s.engine.Start(t.Context(), request)
		if err != nil || !proto.Equal(first, second) {
			t.Errorf("repeated Start = %v, %v", second, err)
		}
		request.Spec = &understudyv1.SyncSpec{DryRun: true}
		_, err = s.engine.Start(t.Context(), request)
		if reused := (*port.RequestIDReusedError)(nil); !errors.As(err, &reused) {
			t.Errorf("Start with other arguments = %v", err)
		}
	})
}

// TestTenantWithoutUser: the types that only a user could read are not selected.
func TestTenantWithoutUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.tenant.User = nil
		s.run()
		final := s.finished(s.start(nil))
		if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetCounts().GetTotal() != 2 {
			t.Errorf("final sync = %v", final)
		}
		s.stop()
		<-s.done
	})
}
