package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// invoke calls a method by its name and returns its error.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string, request any, options ...grpc.CallOption) error {
	if class := methods()[method].class; class != classWatch {
		return conn.Invoke(ctx, method, request, &understudyv1.GetSyncResponse{}, options...)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, options...)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(&understudyv1.WatchSyncResponse{}); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Each malformed field is refused by name, with a text that says what to write.
func TestMalformedRequests(t *testing.T) {
	const (
		run     = understudyv1.SyncService_RunSync_FullMethodName
		start   = understudyv1.SyncService_StartSync_FullMethodName
		watch   = understudyv1.SyncService_WatchSync_FullMethodName
		get     = understudyv1.SyncService_GetSync_FullMethodName
		list    = understudyv1.SyncService_ListSyncs_FullMethodName
		results = understudyv1.SyncService_ListConfigurationResults_FullMethodName
		changes = understudyv1.SyncService_ListItemChanges_FullMethodName
		cancel  = understudyv1.SyncService_CancelSync_FullMethodName
		retry   = understudyv1.SyncService_RetrySync_FullMethodName
		types   = understudyv1.SyncService_ListConfigurationTypes_FullMethodName
	)
	spec := func(s *understudyv1.SyncSpec) proto.Message {
		return &understudyv1.StartSyncRequest{Parent: contoso, Spec: s}
	}
	f := malformed(t)
	for _, c := range []struct {
		name    string
		method  string
		request proto.Message
		field   string
		says    string
	}{
		{"no parent", start, &understudyv1.StartSyncRequest{}, "parent", "must have the form tenants/{tenant}"},
		{"bad parent", run, &understudyv1.RunSyncRequest{Parent: "contoso"}, "parent", "must have the form tenants/{tenant}"},
		{"traversal", run, &understudyv1.RunSyncRequest{Parent: "tenants/../x"}, "parent", "lower-case"},
		{"upper case", start, &understudyv1.StartSyncRequest{Parent: "tenants/Contoso"}, "parent", "lower-case"},
		{"newline", start, &understudyv1.StartSyncRequest{Parent: "tenants/contoso\n"}, "parent", "lower-case"},
		{"too long", start, &understudyv1.StartSyncRequest{Parent: "tenants/" + strings.Repeat("a", 64)}, "parent", "63"},
		{"wildcard tenant", start, &understudyv1.StartSyncRequest{Parent: "tenants/-"}, "parent", "must have the form"},
		{"request_id", start, &understudyv1.StartSyncRequest{Parent: contoso, RequestId: "1"}, "request_id", "UUID"},
		{"request_id of RunSync", run, &understudyv1.RunSyncRequest{Parent: contoso, RequestId: "1"}, "request_id", "UUID"},
		{"heartbeat too short", run, &understudyv1.RunSyncRequest{
			Parent: contoso, HeartbeatInterval: durationpb.New(1),
		}, "heartbeat_interval", "5s"},
		{"heartbeat too long", watch, &understudyv1.WatchSyncRequest{
			Name: syncA, HeartbeatInterval: &durationpb.Duration{Seconds: 301},
		}, "heartbeat_interval", "300s"},
		{"broken duration", watch, &understudyv1.WatchSyncRequest{
			Name: syncA, HeartbeatInterval: &durationpb.Duration{Seconds: 10, Nanos: -5},
		}, "heartbeat_interval", "valid duration"},
		{
			"broken timeout", start, spec(&understudyv1.SyncSpec{Timeout: &durationpb.Duration{Seconds: -1, Nanos: 2e9}}),
			"spec.timeout", "valid duration",
		},
		{"negative sequence", watch, &understudyv1.WatchSyncRequest{Name: syncA, AfterSequence: -1}, "after_sequence", "0"},
		{"a tenant is no sync", watch, &understudyv1.WatchSyncRequest{Name: contoso}, "name", "tenants/{tenant}/syncs/{sync}"},
		{"no name", get, &understudyv1.GetSyncRequest{}, "name", "tenants/{tenant}/syncs/{sync}"},
		{"cancel", cancel, &understudyv1.CancelSyncRequest{Name: syncA + "/x"}, "name", "tenants/{tenant}/syncs/{sync}"},
		{"retry", retry, &understudyv1.RetrySyncRequest{Name: "x"}, "name", "tenants/{tenant}/syncs/{sync}"},
		{"policy of a retry", retry, &understudyv1.RetrySyncRequest{
			Name: syncA, AuthenticationPolicy: 99,
		}, "authentication_policy", "defined"},
		{"comment of a retry", retry, &understudyv1.RetrySyncRequest{
			Name: syncA, Comment: strings.Repeat("x", 501),
		}, "comment", "500"},
		{
			"pattern", start, spec(&understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/*", "Entra"}}),
			"spec.configuration_types[1]", "entra/*",
		},
		{
			"twice", start, spec(&understudyv1.SyncSpec{ConfigurationTypes: []string{"*", "*"}}),
			"spec.configuration_types", "unique",
		},
		{"policy", start, spec(&understudyv1.SyncSpec{AuthenticationPolicy: 99}), "spec.authentication_policy", "defined"},
		{"timeout", start, spec(&understudyv1.SyncSpec{Timeout: durationpb.New(0)}), "spec.timeout", ""},
		{"comment", start, spec(&understudyv1.SyncSpec{Comment: strings.Repeat("x", 501)}), "spec.comment", "500"},
		{
			"collapse wildcard", start, spec(&understudyv1.SyncSpec{AcceptCollapse: []string{"*"}}),
			"spec.accept_collapse[0]", "without wildcards",
		},
		{"parent of a list", list, &understudyv1.ListSyncsRequest{Parent: "tenants/*"}, "parent", "tenants/- for all tenants"},
		{"page size", list, &understudyv1.ListSyncsRequest{Parent: contoso, PageSize: -1}, "page_size", "0"},
		{"long token", list, &understudyv1.ListSyncsRequest{
			Parent: contoso, PageToken: strings.Repeat("a", 1025),
		}, "page_token", "1024"},
		{"token", list, &understudyv1.ListSyncsRequest{Parent: contoso, PageToken: "x"}, "page_token", "next_page_token"},
		{
			"results of a tenant", results, &understudyv1.ListConfigurationResultsRequest{Parent: contoso},
			"parent", "tenants/{tenant}/syncs/{sync}",
		},
		{"outcome", results, &understudyv1.ListConfigurationResultsRequest{
			Parent: syncA, Outcomes: []understudyv1.ConfigurationOutcome{1, 0},
		}, "outcomes[1]", ""},
		{"unknown outcome", results, &understudyv1.ListConfigurationResultsRequest{
			Parent: syncA, Outcomes: []understudyv1.ConfigurationOutcome{77},
		}, "outcomes[0]", "defined"},
		{
			"results token", results, &understudyv1.ListConfigurationResultsRequest{Parent: syncA, PageToken: "AA"},
			"page_token", "next_page_token",
		},
		{"long type", changes, &understudyv1.ListItemChangesRequest{
			Parent: syncA, ConfigurationType: strings.Repeat("x", 129),
		}, "configuration_type", "128"},
		{
			"unknown type", changes, &understudyv1.ListItemChangesRequest{Parent: syncA, ConfigurationType: "entra/zzz"},
			"configuration_type", "ListConfigurationTypes",
		},
		{
			"changes token", changes, &understudyv1.ListItemChangesRequest{Parent: syncA, PageToken: "%"},
			"page_token", "next_page_token",
		},
		{"types token", types, &understudyv1.ListConfigurationTypesRequest{PageToken: "!"}, "page_token", "next_page_token"},
		{"types page size", types, &understudyv1.ListConfigurationTypesRequest{PageSize: -7}, "page_size", "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := invoke(t.Context(), f.conn, c.method, c.request)
			if status.Code(err) != codes.InvalidArgument {
				t.Fatalf("err = %v", err)
			}
			want := understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID
			if c.name == "unknown type" {
				want = understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND
			}
			if reason(err) != want.String() {
				t.Errorf("reason %s", reason(err))
			}
			violations := detail[*errdetails.BadRequest](err).GetFieldViolations()
			if len(violations) != 1 || violations[0].GetField() != c.field ||
				!strings.Contains(violations[0].GetDescription(), c.says) {
				t.Errorf("violations %v", violations)
			}
			if strings.Contains(status.Convert(err).Message(), "regex") {
				t.Errorf("the message quotes a regular expression: %s", err)
			}
		})
	}
}

// malformed returns a server that malformed requests are sent to.
func malformed(t *testing.T) *fixture {
	f := serve(t)
	f.failWith(errors.New("the handler was reached"))
	return f
}

// All violations are reported at once.
func TestSeveralViolations(t *testing.T) {
	f := serve(t)
	_, err := f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{
		RequestId: "x", Spec: &understudyv1.SyncSpec{AuthenticationPolicy: 9, AcceptCollapse: []string{"?"}},
	})
	var fields []string
	for _, v := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
		fields = append(fields, v.GetField())
		if strings.Trim(v.GetReason(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" || v.GetReason() == "" {
			t.Errorf("reason %q", v.GetReason())
		}
	}
	want := []string{"parent", "spec.authentication_policy", "spec.accept_collapse[0]", "request_id"}
	if d := diff(want, fields); d != "" {
		t.Error(d)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{ encoding.Codec }

func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(_ []byte, _ any) error { return nil }
func (rawCodec) Name() string                    { return "proto" }

// What is not even a message, or too large, is refused by gRPC; nothing behind it
// is reached, and what the server says is logged as what the client got.
func TestUndecodableRequests(t *testing.T) {
	log := &lockedBuffer{}
	f := serve(t, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(log, nil)) })
	f.failWith(errors.New("the handler was reached"))
	large, err := proto.Marshal(&understudyv1.GetSyncRequest{Name: strings.Repeat("x", maxRequest+1)})
	if err != nil {
		t.Fatal(err)
	}
	for name, entry := range methods() {
		if entry.class == classProbe {
			continue
		}
		if err := invoke(t.Context(), f.conn, name, []byte("\xff\xff"), grpc.ForceCodec(rawCodec{})); status.Code(err) != codes.Internal ||
			!strings.Contains(err.Error(), "unmarshal") {
			t.Errorf("%s: %v", name, err)
		}
		if err := invoke(t.Context(), f.conn, name, large, grpc.ForceCodec(rawCodec{})); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(log.String(), "error_id") {
		t.Errorf("a wrong request is taken for a bug:\n%s", log)
	}
}

// Arbitrary bytes as a request never are an internal error, and every refusal has
// a reason and stays within the limits.
func FuzzRequests(f *testing.F) {
	var names []string
	for name, entry := range methods() {
		if entry.class != classProbe {
			names = append(names, name)
		}
	}
	for i, request := range []proto.Message{
		&understudyv1.StartSyncRequest{Parent: contoso, Spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"*"}}},
		&understudyv1.WatchSyncRequest{Name: syncA, AfterSequence: 3},
		&understudyv1.ListSyncsRequest{Parent: contoso, PageSize: 3, PageToken: "AbcD"},
	} {
		content, err := proto.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), content)
	}
	fixture := serve(f)
	fixture.journal.append(finished(understudyv1.SyncState_SYNC_STATE_SUCCEEDED))
	f.Fuzz(func(t *testing.T, method uint8, content []byte) {
		err := invoke(t.Context(), fixture.conn, names[int(method)%len(names)], content, grpc.ForceCodec(rawCodec{}))
		s := status.Convert(err)
		if s.Code() == codes.OK {
			return
		}
		if strings.Contains(s.Message(), "unmarshal") {
			return // refused by gRPC
		}
		if s.Code() == codes.Internal || s.Code() == codes.Unknown || reason(err) == "" {
			t.Errorf("%v", s.Proto())
		}
		if size := onWire(t, s); size >= 4096 {
			t.Errorf("%d bytes", size)
		}
	})
}
