package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

const tenantName = "tenants/contoso"

// stage is an engine with fakes around it.
type stage struct {
	t       *testing.T
	sp      *fakeIdentity
	user    *fakeIdentity
	source  *fakeSource
	vault   *fakeVault
	syncs   *fakeSyncs
	tenant  *engine.Tenant
	tenants *fakeTenants
	engine  *engine.Engine
	stop    context.CancelFunc
	done    chan struct{}
}

// newStage makes an engine of a tenant with two types for the service principal
// (entra/sp-1, entra/sp-2) and two for the user (print/user-1, print/user-2).
func newStage(t *testing.T) *stage { return newStageOf(t, func(*engine.Config) {}) }

// newStageOf is newStage with another configuration.
func newStageOf(t *testing.T, change func(*engine.Config)) *stage {
	t.Helper()
	s := &stage{
		t:      t,
		sp:     &fakeIdentity{identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL},
		user:   &fakeIdentity{identity: understudyv1.Identity_IDENTITY_USER},
		source: &fakeSource{reads: map[string]readFunc{}},
		vault:  &fakeVault{backup: map[string][]string{}, collapse: map[string]bool{}},
		syncs:  newFakeSyncs("worker"),
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
	s.tenants = &fakeTenants{tenant: s.tenant}
	config := engine.Config{
		Tenants: s.tenants,
		Catalog: &fakeCatalog{[]*catalog.Type{
			{ID: "entra/sp-1", ServicePrincipal: []string{"A.Read.All"}, User: []string{"A.Read.All"}},
			{ID: "entra/sp-2", ServicePrincipal: []string{"B.Read.All"}},
			{ID: "print/user-1", User: []string{"C.Read.All"}},
			{ID: "print/user-2", User: []string{"D.Read.All", "E.Read.All"}},
		}},
		Syncs:              s.syncs,
		MaxConcurrentSyncs: 1,
		MaxQueuedSyncs:     2,
	}
	change(&config)
	e, err := engine.New(config)
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

// checkReadings compares what the vault was told with the results: rule 4. Only a
// type of which everything was read is given to it as complete.
func (s *stage) checkReadings(log *fakeLog) {
	s.t.Helper()
	for _, event := range log.stored() {
		result := event.GetConfigurationCompleted().GetResult()
		if result == nil {
			continue
		}
		if failure := failureIn(s.t, result.GetError()); failure != nil && (failure.GetAffectedCount() < 1 || failure.AffectedConfigurationTypes != nil) {
			s.t.Errorf("the failure of %s says that it affects %d types, %v", result.GetConfigurationType(),
				failure.GetAffectedCount(), failure.GetAffectedConfigurationTypes())
		}
		complete := s.vault.readings[result.GetConfigurationType()].Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
		switch result.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
			if !complete {
				s.t.Errorf("%s was not given to the vault as complete", result.GetConfigurationType())
			}
		default:
			collapsed := result.GetReason() == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
			vanished := result.GetReason() == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
			if complete && !collapsed && !vanished {
				s.t.Errorf("%s was given to the vault as complete", result.GetConfigurationType())
			}
		}
	}
}

// failureIn returns the authentication failure among the details of a status, or nil.
func failureIn(t *testing.T, status *rpcstatus.Status) *understudyv1.AuthFailure {
	t.Helper()
	var failure understudyv1.AuthFailure
	for _, detail := range status.GetDetails() {
		if detail.MessageIs(&failure) {
			if err := detail.UnmarshalTo(&failure); err != nil {
				t.Fatal(err)
			}
			return &failure
		}
	}
	return nil
}

// checkCommitting checks that a sync says that it commits before it does, and only
// then: the event is the last one before the snapshot.
func (s *stage) checkCommitting(log *fakeLog) {
	s.t.Helper()
	committing := false
	for _, event := range log.stored() {
		if (event.GetSnapshotCommitted() != nil) && !committing {
			s.t.Error("it committed without saying so")
		}
		committing = commits(event)
	}
}

// commits says whether an event tells that a commit begins.
func commits(event *understudyv1.SyncEvent) bool {
	return event.GetStateChanged().GetState() == understudyv1.SyncState_SYNC_STATE_COMMITTING
}

// summary says each event in a line, results in the order of their types.
func summary(events []*understudyv1.SyncEvent) []string {
	var lines, results []string
	for _, event := range events {
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_Started:
			lines = append(lines, fmt.Sprintf("started %d", len(e.Started.GetConfigurationTypes())))
		case *understudyv1.SyncEvent_StateChanged:
			line, worker := "state "+short(e.StateChanged.GetState(), "SYNC_STATE_"), e.StateChanged.GetWorker()
			if worker != "" {
				line += " by " + worker
			}
			if line != "state COMMITTING" { // see checkCommitting
				lines = append(lines, line)
			}
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
