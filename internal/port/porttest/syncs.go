package porttest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Syncs tests an implementation of [port.Syncs] and [port.Log]. Open returns an
// empty one for each test.
func Syncs(t *testing.T, open func(t *testing.T) port.Syncs) {
	for name, test := range map[string]func(*testing.T, port.Syncs){
		"create":                              testCreate,
		"one sync per tenant":                 testOnePerTenant,
		"request ids":                         testRequestIDs,
		"append":                              testAppend,
		"append of nothing":                   testAppendNothing,
		"an event that nobody knows":          testUnknownEvent,
		"the fold of the events":              testFold,
		"a finished log is closed":            testFinished,
		"what does not exist":                 testNotFound,
		"unfinished":                          testUnfinished,
		"events after a sequence":             testEvents,
		"nothing is shared":                   testOwnership,
		"taking":                              testTaking,
		"taking over":                         testTakingOver,
		"a writer that does not know the end": testUnknownEnd,
		"cancelling":                          testCancelling,
		"cancelling or committing":            testCancellingOrCommitting,
		"completed again":                     testCompletedAgain,
		"changes are heard of":                testChanged,
		"workers":                             testWorkers,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Create makes a sync of a tenant.
func Create(t *testing.T, syncs port.Syncs, tenant string) *understudyv1.Sync {
	t.Helper()
	sync, created, err := syncs.Create(t.Context(), port.CreateRequest{
		Tenant: tenant, Sync: &understudyv1.Sync{Creator: "a caller", Spec: &understudyv1.SyncSpec{Comment: "a comment"}},
	})
	if err != nil || !created {
		t.Fatalf("Create = %v, %v", created, err)
	}
	return sync
}

// Open opens the log of a sync.
func Open(t *testing.T, syncs port.Syncs, name string) port.Log {
	t.Helper()
	log, err := syncs.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Append stores events.
func Append(t *testing.T, log port.Log, events ...*understudyv1.SyncEvent) {
	t.Helper()
	if err := log.Append(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// Started returns an event.
func Started(ids ...string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{
		Started: &understudyv1.SyncStarted{ConfigurationTypes: ids, CatalogVersion: "v"},
	}}
}

// Result returns an event.
func Result(id string, outcome understudyv1.ConfigurationOutcome) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
		ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{
			ConfigurationType: id, Outcome: outcome,
		}},
	}}
}

// Finish ends a sync, as a worker does.
func Finish(t *testing.T, log port.Log) *understudyv1.Sync {
	t.Helper()
	sync := log.Sync()
	sync.State = understudyv1.SyncState_SYNC_STATE_SUCCEEDED
	sync.EndTime = timestamppb.Now()
	sync.LastSequence++
	Append(t, log, &understudyv1.SyncEvent{
		EventTime: sync.GetEndTime(),
		Event:     &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: proto.CloneOf(sync)}},
	})
	return sync
}

// events collects the events of a sync after a sequence.
func events(t *testing.T, syncs port.Syncs, name string, after int64) []*understudyv1.SyncEvent {
	t.Helper()
	var all []*understudyv1.SyncEvent
	for event, err := range syncs.Events(t.Context(), name, after) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, event)
	}
	return all
}

func testCreate(t *testing.T, syncs port.Syncs) {
	request := &understudyv1.Sync{Creator: "a caller", Name: "ignored", LastSequence: 7}
	sync, _, err := syncs.Create(t.Context(), port.CreateRequest{Tenant: "tenants/contoso", Sync: request})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(sync.GetName(), "tenants/contoso/syncs/") || sync.GetState() != understudyv1.SyncState_SYNC_STATE_PENDING ||
		sync.GetCreateTime() == nil || sync.GetLastSequence() != 0 || sync.GetCreator() != "a caller" {
		t.Errorf("Create = %v", sync)
	}
	if request.GetName() != "ignored" {
		t.Error("Create changed its argument")
	}
	got, err := syncs.Get(t.Context(), sync.GetName())
	if diff := cmp.Diff(sync, got, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("Get (-want +got), %v:\n%s", err, diff)
	}
	if got := Open(t, syncs, sync.GetName()).Sync(); !proto.Equal(got, sync) {
		t.Errorf("the log's sync = %v", got)
	}
}

func testOnePerTenant(t *testing.T, syncs port.Syncs) {
	first := Create(t, syncs, "tenants/contoso")
	Create(t, syncs, "tenants/contoso-2")
	for i := range 2 {
		_, _, err := syncs.Create(t.Context(), port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}})
		running := (*port.SyncRunningError)(nil)
		if !errors.As(err, &running) || running.Sync != first.GetName() {
			t.Fatalf("a second sync: %v", err)
		}
		Append(t, Open(t, syncs, first.GetName()), Result(fmt.Sprintf("a/b%d", i), 1))
	}
	Finish(t, Open(t, syncs, first.GetName()))
	if second := Create(t, syncs, "tenants/contoso"); second.GetName() <= first.GetName() {
		t.Errorf("%s does not sort after %s", second.GetName(), first.GetName())
	}
}

func testRequestIDs(t *testing.T, syncs port.Syncs) {
	request := port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}, RequestID: "r", Digest: "d"}
	first, created, err := syncs.Create(t.Context(), request)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	repeat := func() {
		t.Helper()
		again, created, err := syncs.Create(t.Context(), request)
		if err != nil || created || again.GetName() != first.GetName() {
			t.Errorf("repeated: %v, %v, %v", again.GetName(), created, err)
		}
		other := request
		other.Digest = "another"
		reused := (*port.RequestIDReusedError)(nil)
		if _, _, err := syncs.Create(t.Context(), other); !errors.As(err, &reused) || reused.RequestID != "r" {
			t.Errorf("with other arguments: %v", err)
		}
	}
	repeat()
	elsewhere := request
	elsewhere.Tenant = "tenants/fabrikam"
	if sync, created, err := syncs.Create(t.Context(), elsewhere); err != nil || !created || sync.GetName() == first.GetName() {
		t.Errorf("of another tenant: %v, %v, %v", sync.GetName(), created, err)
	}
	Finish(t, Open(t, syncs, first.GetName()))
	repeat()
}

func testAppend(t *testing.T, syncs port.Syncs) {
	log := Open(t, syncs, Create(t, syncs, "tenants/contoso").GetName())
	at := timestamppb.Now()
	at.Seconds -= 60
	first, second, third := Started("a/b"), Result("a/b", 1), Result("a/c", 1)
	second.EventTime = at
	Append(t, log, first)
	Append(t, log, second, third)
	for i, event := range []*understudyv1.SyncEvent{first, second, third} {
		if event.GetSequence() != int64(i+1) || event.GetEventTime() == nil {
			t.Errorf("event %d has the sequence %d and the time %v", i, event.GetSequence(), event.GetEventTime())
		}
	}
	if !proto.Equal(second.GetEventTime(), at) {
		t.Error("a time that was set was changed")
	}
	want := []*understudyv1.SyncEvent{first, second, third}
	if diff := cmp.Diff(want, events(t, syncs, log.Sync().GetName(), 0), protocmp.Transform()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func testAppendNothing(t *testing.T, syncs port.Syncs) {
	log := Open(t, syncs, Create(t, syncs, "tenants/contoso").GetName())
	Append(t, log)
	Append(t, log, Started())
	if got := log.Sync().GetLastSequence(); got != 1 {
		t.Errorf("last_sequence = %d", got)
	}
}

func testUnknownEvent(t *testing.T, syncs port.Syncs) {
	log := Open(t, syncs, Create(t, syncs, "tenants/contoso").GetName())
	Append(t, log, Started("a/b"))
	before := log.Sync()
	Append(t, log, &understudyv1.SyncEvent{})
	before.LastSequence = 2
	if diff := cmp.Diff(before, log.Sync(), protocmp.Transform()); diff != "" {
		t.Errorf("it has a meaning (-without +with):\n%s", diff)
	}
}

func testFold(t *testing.T, syncs port.Syncs) {
	log := Open(t, syncs, Create(t, syncs, "tenants/contoso").GetName())
	failed := &understudyv1.AuthFailure{
		Identity: understudyv1.Identity_IDENTITY_USER, Reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED,
	}
	Append(t, log, Started("a/b", "a/c", "a/d"), &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationSucceeded{
		AuthenticationSucceeded: &understudyv1.AuthenticationSucceeded{Identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL},
	}}, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationFailed{
		AuthenticationFailed: &understudyv1.AuthenticationFailed{Failure: failed},
	}}, Result("a/b", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED),
		Result("a/c", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP),
		&understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{
			StateChanged: &understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_CANCELLING},
		}})
	want := &understudyv1.Sync{
		State: understudyv1.SyncState_SYNC_STATE_CANCELLING, CatalogVersion: "v", LastSequence: 6, Creator: "a caller",
		Attempt: 1,
		Spec:    &understudyv1.SyncSpec{Comment: "a comment"},
		Counts:  &understudyv1.OutcomeCounts{Total: 3, Changed: 1, NotBackedUp: 1},
		Identities: []*understudyv1.IdentityOutcome{
			{Identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, State: understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED},
			{Identity: understudyv1.Identity_IDENTITY_USER, State: understudyv1.IdentityState_IDENTITY_STATE_FAILED, Failure: failed},
		},
	}
	got := log.Sync()
	if diff := cmp.Diff(want, got, protocmp.Transform(),
		protocmp.IgnoreFields(&understudyv1.Sync{}, "name", "create_time", "start_time")); diff != "" {
		t.Errorf("sync (-want +got):\n%s", diff)
	}
	if got.GetStartTime() == nil {
		t.Error("it has no start_time")
	}
	if found, err := syncs.Get(t.Context(), got.GetName()); err != nil || !proto.Equal(found, got) {
		t.Errorf("Get = %v, %v", found, err)
	}
}

func testFinished(t *testing.T, syncs port.Syncs) {
	log := Open(t, syncs, Create(t, syncs, "tenants/contoso").GetName())
	Append(t, log, Started("a/b"))
	final := Finish(t, log)
	name := final.GetName()
	fenced := (*port.FencedError)(nil)
	if err := log.Append(t.Context(), Result("a/b", 1)); !errors.As(err, &fenced) || fenced.Sync != name {
		t.Errorf("Append = %v", err)
	}
	if _, err := syncs.Open(t.Context(), name); !errors.As(err, &fenced) {
		t.Errorf("Open = %v", err)
	}
	got, err := syncs.Get(t.Context(), name)
	if diff := cmp.Diff(final, got, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("Get (-want +got), %v:\n%s", err, diff)
	}
	if all := events(t, syncs, name, 0); len(all) != 2 || all[1].GetFinished() == nil {
		t.Errorf("events = %v", all)
	}
}

func testNotFound(t *testing.T, syncs port.Syncs) {
	const name = "tenants/contoso/syncs/none"
	missing := (*port.NotFoundError)(nil)
	if _, err := syncs.Get(t.Context(), name); !errors.As(err, &missing) || missing.Resource != name {
		t.Errorf("Get = %v", err)
	}
	if _, err := syncs.Open(t.Context(), name); !errors.As(err, &missing) {
		t.Errorf("Open = %v", err)
	}
	n := 0
	for _, err := range syncs.Events(t.Context(), name, 0) {
		if n++; !errors.As(err, &missing) {
			t.Errorf("Events = %v", err)
		}
	}
	if n != 1 {
		t.Errorf("Events yielded %d times", n)
	}
}

func testUnfinished(t *testing.T, syncs port.Syncs) {
	a, b, c := Create(t, syncs, "tenants/a"), Create(t, syncs, "tenants/b"), Create(t, syncs, "tenants/c")
	Append(t, Open(t, syncs, c.GetName()), Started())
	Finish(t, Open(t, syncs, a.GetName()))
	unfinished, err := syncs.Unfinished(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []port.Standing{
		{Sync: b.GetName(), State: understudyv1.SyncState_SYNC_STATE_PENDING},
		{Sync: c.GetName(), State: understudyv1.SyncState_SYNC_STATE_RUNNING, Attempt: 1},
	}
	if diff := cmp.Diff(want, unfinished); diff != "" {
		t.Errorf("unfinished (-want +got):\n%s", diff)
	}
}

func testEvents(t *testing.T, syncs port.Syncs) {
	log := Open(t, syncs, Create(t, syncs, "tenants/contoso").GetName())
	Append(t, log, Started(), Result("a/b", 1), Result("a/c", 1))
	check := func() {
		t.Helper()
		last := log.Sync().GetLastSequence()
		for after := range last + 2 {
			got := events(t, syncs, log.Sync().GetName(), after)
			if int64(len(got)) != max(0, last-after) {
				t.Fatalf("%d events after %d of %d", len(got), after, last)
			}
			for i, event := range got {
				if event.GetSequence() != after+int64(i)+1 {
					t.Errorf("after %d: sequence %d at %d", after, event.GetSequence(), i)
				}
			}
		}
		for event, err := range syncs.Events(t.Context(), log.Sync().GetName(), 0) {
			if err != nil || event.GetSequence() != 1 {
				t.Errorf("the first event is %d, %v", event.GetSequence(), err)
			}
			break
		}
	}
	check()
	Finish(t, log)
	check()
}

func testOwnership(t *testing.T, syncs port.Syncs) {
	spec := &understudyv1.SyncSpec{Comment: "before"}
	created, _, err := syncs.Create(t.Context(), port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{Spec: spec}})
	if err != nil {
		t.Fatal(err)
	}
	name := created.GetName()
	log := Open(t, syncs, name)
	event := Started("before")
	Append(t, log, event)

	spec.Comment = "after"
	created.Spec.Comment = "after"
	event.GetStarted().ConfigurationTypes[0] = "after"
	log.Sync().Spec.Comment = "after"
	got, err := syncs.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetSpec().GetComment() != "before" || log.Sync().GetSpec().GetComment() != "before" {
		t.Error("a sync is shared with its caller")
	}
	if events(t, syncs, name, 0)[0].GetStarted().GetConfigurationTypes()[0] != "before" {
		t.Error("an event is shared with its writer")
	}
}
