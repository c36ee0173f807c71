package edge

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// These tests send bad input to the edge over the real engine, catalog and
// journal. The engine accepts syncs and does not run them.

// oneTenant is contoso, which has no user.
type oneTenant struct{}

func (oneTenant) Tenant(name string) (*engine.Tenant, error) {
	if name != contoso {
		return nil, &port.NotFoundError{Resource: name}
	}
	return &engine.Tenant{
		Name: name, ConfigurationTypes: []string{"*"},
		Policy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_CONTINUE_WITHOUT_USER,
	}, nil
}

// assemble serves the real engine, catalog and journal.
func assemble(t *testing.T) (*fixture, *journal.Journal) {
	t.Helper()
	types, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, t.TempDir())
	e, err := engine.New(engine.Config{Tenants: oneTenant{}, Catalog: types, Syncs: j})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, overJournal(j), func(c *Config) { c.Engine, c.Catalog = e, types }), j
}

// refusal is how a call is refused.
type refusal struct {
	code     codes.Code
	reason   understudyv1.ErrorReason
	metadata map[string]string
	// field is that of the only violation; empty for none.
	field string
}

// check checks how a call was refused.
func (want refusal) check(t *testing.T, err error) {
	t.Helper()
	if status.Code(err) != want.code || reason(err) != want.reason.String() {
		t.Fatalf("%v (%s), want %s %s", err, reason(err), want.code, want.reason)
	}
	if got := detail[*errdetails.ErrorInfo](err).GetMetadata(); len(got)+len(want.metadata) > 0 {
		if d := diff(want.metadata, got); d != "" {
			t.Error(d)
		}
	}
	var fields []string
	for _, v := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
		fields = append(fields, v.GetField())
		if v.GetDescription() == "" {
			t.Errorf("no description of %s", v.GetField())
		}
	}
	if strings.Join(fields, " ") != want.field {
		t.Errorf("fields %v, want %s", fields, want.field)
	}
}

// Bad input is refused with a reason, and nothing is stored of it.
func TestBadInput(t *testing.T) {
	f, j := assemble(t)
	const unknown, invalid = understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND, understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID
	missing := contoso + "/syncs/0missing"
	notFound := func(resource string) refusal {
		return refusal{codes.NotFound, unknown, map[string]string{"resource": resource}, ""}
	}
	start := func(parent string, spec *understudyv1.SyncSpec) proto.Message {
		return &understudyv1.StartSyncRequest{Parent: parent, Spec: spec}
	}
	for _, c := range []struct {
		name    string
		method  string
		request proto.Message
		want    refusal
	}{
		{"unknown tenant", understudyv1.SyncService_StartSync_FullMethodName, start("tenants/fabrikam", nil), notFound("tenants/fabrikam")},
		{
			"unknown tenant of RunSync", understudyv1.SyncService_RunSync_FullMethodName,
			&understudyv1.RunSyncRequest{Parent: "tenants/fabrikam"}, notFound("tenants/fabrikam"),
		},
		{
			"unknown type", understudyv1.SyncService_StartSync_FullMethodName,
			start(contoso, &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/*", "entra/conditional-access-policys"}}),
			refusal{
				codes.InvalidArgument, unknown,
				map[string]string{"resource": "entra/conditional-access-policys"},
				"spec.configuration_types[1]",
			},
		},
		{
			"unknown workload", understudyv1.SyncService_StartSync_FullMethodName,
			start(contoso, &understudyv1.SyncSpec{ConfigurationTypes: []string{"sap/*"}}),
			refusal{codes.InvalidArgument, unknown, map[string]string{"resource": "sap/*"}, "spec.configuration_types[0]"},
		},
		{
			"unknown collapse", understudyv1.SyncService_StartSync_FullMethodName,
			start(contoso, &understudyv1.SyncSpec{AcceptCollapse: []string{"a/b"}}),
			refusal{codes.InvalidArgument, unknown, map[string]string{"resource": "a/b"}, "spec.accept_collapse[0]"},
		},
		{
			"a user is required where there is none", understudyv1.SyncService_StartSync_FullMethodName,
			start(contoso, &understudyv1.SyncSpec{
				AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
			}),
			refusal{codes.InvalidArgument, invalid, nil, "spec.authentication_policy"},
		},
		{
			"malformed tenant", understudyv1.SyncService_StartSync_FullMethodName, start("tenants/../../etc", nil),
			refusal{codes.InvalidArgument, invalid, nil, "parent"},
		},
		{
			"malformed sync", understudyv1.SyncService_GetSync_FullMethodName,
			&understudyv1.GetSyncRequest{Name: contoso + "/syncs/A"},
			refusal{codes.InvalidArgument, invalid, nil, "name"},
		},
		{"get", understudyv1.SyncService_GetSync_FullMethodName, &understudyv1.GetSyncRequest{Name: missing}, notFound(missing)},
		{"watch", understudyv1.SyncService_WatchSync_FullMethodName, &understudyv1.WatchSyncRequest{Name: missing}, notFound(missing)},
		{"cancel", understudyv1.SyncService_CancelSync_FullMethodName, &understudyv1.CancelSyncRequest{Name: missing}, notFound(missing)},
		{"retry", understudyv1.SyncService_RetrySync_FullMethodName, &understudyv1.RetrySyncRequest{Name: missing}, notFound(missing)},
		{
			"results", understudyv1.SyncService_ListConfigurationResults_FullMethodName,
			&understudyv1.ListConfigurationResultsRequest{Parent: missing}, notFound(missing),
		},
		{
			"changes", understudyv1.SyncService_ListItemChanges_FullMethodName,
			&understudyv1.ListItemChangesRequest{Parent: missing}, notFound(missing),
		},
	} {
		t.Run(c.name, func(t *testing.T) { c.want.check(t, invoke(t.Context(), f.conn, c.method, c.request)) })
	}
	if left, err := j.Unfinished(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("stored of what was refused: %v %v", left, err)
	}
}

// A tenant has one sync at a time, and the one that runs is not touched by the
// one that is refused.
func TestTwoSyncsAtOnce(t *testing.T) {
	f, _ := assemble(t)
	first, err := f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{Parent: contoso})
	if err != nil {
		t.Fatal(err)
	}
	name := first.GetSync().GetName()
	running := refusal{
		codes.Aborted, understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_RUNNING, map[string]string{"sync": name}, "",
	}
	_, err = f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{Parent: contoso})
	running.check(t, err)
	running.check(t, invoke(t.Context(), f.conn, understudyv1.SyncService_RunSync_FullMethodName,
		&understudyv1.RunSyncRequest{Parent: contoso}))
	_, err = f.client.RetrySync(t.Context(), &understudyv1.RetrySyncRequest{Name: name})
	refusal{
		codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_NOTHING_TO_RETRY,
		map[string]string{"sync": name, "state": "SYNC_STATE_PENDING"},
		"",
	}.check(t, err)

	if got, err := f.client.GetSync(t.Context(), &understudyv1.GetSyncRequest{Name: name}); err != nil ||
		got.GetSync().GetState() != understudyv1.SyncState_SYNC_STATE_PENDING {
		t.Errorf("the running sync: %v %v", got, err)
	}
	cancelled, err := f.client.CancelSync(t.Context(), &understudyv1.CancelSyncRequest{Name: name})
	if err != nil || cancelled.GetSync().GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED {
		t.Fatalf("%v %v", cancelled, err)
	}
	if _, err := f.client.CancelSync(t.Context(), &understudyv1.CancelSyncRequest{Name: name}); err != nil {
		t.Errorf("cancelled twice: %v", err)
	}
	if _, err := f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{Parent: contoso}); err != nil {
		t.Errorf("the tenant is still taken: %v", err)
	}
}

// A repeated request_id watches the sync that the first request started, whatever
// its kind; with other arguments it is refused.
func TestRequestIDs(t *testing.T) {
	f, _ := assemble(t)
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	spec := &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/*"}}
	request := &understudyv1.StartSyncRequest{Parent: contoso, Spec: spec, RequestId: id}
	first, err := f.client.StartSync(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.client.StartSync(t.Context(), request)
	if d := diff(first, again); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	other := proto.CloneOf(request)
	other.Spec.DryRun = true
	_, err = f.client.StartSync(t.Context(), other)
	reused := refusal{codes.InvalidArgument, understudyv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED, nil, "request_id"}
	reused.check(t, err)

	stream, err := f.client.RunSync(t.Context(), &understudyv1.RunSyncRequest{Parent: contoso, Spec: spec, RequestId: id})
	if err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	name := first.GetSync().GetName()
	if err != nil || response.GetEvent().GetCurrentState().GetSync().GetName() != name {
		t.Fatalf("%v %v", response, err)
	}
	if _, err := f.client.CancelSync(t.Context(), &understudyv1.CancelSyncRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	refusal{
		codes.Canceled, understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED, map[string]string{"sync": name}, "",
	}.check(t, err)
	// Also when the sync is over, the id is that sync's.
	_, err = f.client.RetrySync(t.Context(), &understudyv1.RetrySyncRequest{Name: name, RequestId: id})
	reused.check(t, err)
	if over, err := f.client.StartSync(t.Context(), request); err != nil || over.GetSync().GetName() != name {
		t.Errorf("%v %v", over, err)
	}
}

// A page token is good for its request only: not for another method, parent or
// filter, and not when a byte of it is different. Any page size will do.
func TestPageTokensOfAnotherRequest(t *testing.T) {
	f, j := assemble(t)
	s := newScript(t, j, contoso)
	s.append(5)
	s.finish()
	results := &understudyv1.ListConfigurationResultsRequest{Parent: s.name, PageSize: 2}
	page, err := f.client.ListConfigurationResults(t.Context(), results)
	if err != nil || len(page.GetResults()) != 2 || page.GetNextPageToken() == "" {
		t.Fatalf("%v %v", page, err)
	}
	token := page.GetNextPageToken()
	types, err := f.client.ListConfigurationTypes(t.Context(), &understudyv1.ListConfigurationTypesRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(token)
	flipped[3] ^= 1
	for name, request := range map[string]pageRequest{
		"another sync": &understudyv1.ListConfigurationResultsRequest{Parent: contoso + "/syncs/other", PageToken: token},
		"another filter": &understudyv1.ListConfigurationResultsRequest{
			Parent: s.name, PageToken: token, Outcomes: []understudyv1.ConfigurationOutcome{1},
		},
		"another method":  &understudyv1.ListItemChangesRequest{Parent: s.name, PageToken: token},
		"the list":        &understudyv1.ListSyncsRequest{Parent: contoso, PageToken: token},
		"the types":       &understudyv1.ListConfigurationTypesRequest{PageToken: token},
		"of the types":    &understudyv1.ListConfigurationResultsRequest{Parent: s.name, PageToken: types.GetNextPageToken()},
		"another byte":    &understudyv1.ListConfigurationResultsRequest{Parent: s.name, PageToken: string(flipped)},
		"a byte too many": &understudyv1.ListConfigurationResultsRequest{Parent: s.name, PageToken: token + "A"},
		"a byte too few":  &understudyv1.ListConfigurationResultsRequest{Parent: s.name, PageToken: token[:len(token)-1]},
	} {
		t.Run(name, func(t *testing.T) {
			method := map[string]string{
				"ListConfigurationResultsRequest": understudyv1.SyncService_ListConfigurationResults_FullMethodName,
				"ListItemChangesRequest":          understudyv1.SyncService_ListItemChanges_FullMethodName,
				"ListSyncsRequest":                understudyv1.SyncService_ListSyncs_FullMethodName,
				"ListConfigurationTypesRequest":   understudyv1.SyncService_ListConfigurationTypes_FullMethodName,
			}[string(request.ProtoReflect().Descriptor().Name())]
			refusal{
				codes.InvalidArgument, understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID, nil, "page_token",
			}.check(t, invoke(t.Context(), f.conn, method, request))
		})
	}
	results.PageSize, results.PageToken = 10, token
	rest, err := f.client.ListConfigurationResults(t.Context(), results)
	var ids []string
	for _, r := range slices.Concat(page.GetResults(), rest.GetResults()) {
		ids = append(ids, r.GetConfigurationType())
	}
	if want := "entra/t0 entra/t1 entra/t2 entra/t3 entra/t4"; err != nil || strings.Join(ids, " ") != want || rest.GetNextPageToken() != "" {
		t.Errorf("%v %v %v", ids, rest.GetNextPageToken(), err)
	}
}

// Every sync is on exactly one page, also when syncs are started between pages.
func TestPagesOfSyncs(t *testing.T) {
	f, j := assemble(t)
	var want []string
	for range 7 {
		s := newScript(t, j, contoso)
		s.finish()
		want = append(want, s.name)
	}
	slices.Reverse(want)
	var got []string
	for token, first := "", true; first || token != ""; first = false {
		page, err := f.client.ListSyncs(t.Context(), &understudyv1.ListSyncsRequest{Parent: contoso, PageSize: 3, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.GetSyncs() {
			got = append(got, s.GetName())
		}
		token = page.GetNextPageToken()
		newScript(t, j, contoso).finish()
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

// RunSync shows the whole log and ends as its sync did.
func TestRunSyncOverTheJournal(t *testing.T) {
	f, j := assemble(t)
	stream, err := f.client.RunSync(t.Context(), &understudyv1.RunSyncRequest{Parent: contoso})
	if err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	s := openScript(t, j, response.GetEvent().GetCurrentState().GetSync().GetName())
	s.append(3)
	s.finish()
	var sequences []int64
	for {
		response, err = stream.Recv()
		if err != nil {
			break
		}
		if response.GetEvent().GetHeartbeat() == nil {
			sequences = append(sequences, response.GetEvent().GetSequence())
		}
	}
	if !errors.Is(err, io.EOF) || !slices.Equal(sequences, []int64{1, 2, 3, 4}) {
		t.Errorf("%v %v", sequences, err)
	}
}
