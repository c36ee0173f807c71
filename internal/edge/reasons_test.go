package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// production is how the edge comes to answer a reason, with texts and lists that
// are far too long for a status.
type production struct {
	rpc  string
	code codes.Code
	// set makes the service answer so.
	set func(t testing.TB, f *fixture)
	// details are the names of the details after ErrorInfo.
	details []string
	// metadata are the keys of the ErrorInfo's metadata.
	metadata []string
}

// behind makes the engine and the journal fail.
func behind(err error) func(testing.TB, *fixture) {
	return func(_ testing.TB, f *fixture) { f.failWith(err) }
}

// ended makes a sync end with an error.
func ended(state understudyv1.SyncState, code codes.Code, reason understudyv1.ErrorReason, details ...proto.Message) func(testing.TB, *fixture) {
	return func(t testing.TB, f *fixture) {
		f.journal.append(finished(state, func(s *understudyv1.Sync) { s.Error = statusOfSync(t, code, reason, details...) }))
	}
}

// productions has every reason that a call can end with.
func productions() map[understudyv1.ErrorReason][]production {
	long := strings.Repeat("x", 3000)
	sync := contoso + "/syncs/" + long
	failure := hugeFailure()
	transient := proto.CloneOf(failure)
	transient.Retryable, transient.RetryDelay, transient.HelpUri = true, durationpb.New(time.Minute), "https://help.example/x"
	const failed, cancelled = understudyv1.SyncState_SYNC_STATE_FAILED, understudyv1.SyncState_SYNC_STATE_CANCELLED
	return map[understudyv1.ErrorReason][]production{
		understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_RUNNING: {
			{"StartSync", codes.Aborted, behind(&port.SyncRunningError{Sync: sync}), nil, []string{"sync"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_FINISHED: {
			{"CancelSync", codes.FailedPrecondition, behind(&port.SyncFinishedError{Sync: sync, State: failed}), nil, []string{"state", "sync"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_NOTHING_TO_RETRY: {
			{"RetrySync", codes.FailedPrecondition, behind(&engine.NothingToRetryError{Sync: sync}), nil, []string{"state", "sync"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED: {
			{"StartSync", codes.InvalidArgument, behind(&port.RequestIDReusedError{RequestID: long}), []string{"BadRequest"}, nil},
		},
		understudyv1.ErrorReason_ERROR_REASON_EVENTS_TRIMMED: {
			{"WatchSync", codes.OutOfRange, behind(&port.TrimmedError{After: 1, Oldest: 1 << 62}), nil, []string{"oldestSequence"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_SEQUENCE_IN_FUTURE: {
			{"WatchSync", codes.OutOfRange, behind(&port.SequenceInFutureError{After: 1 << 62}), nil, []string{"lastSequence"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_WATCHER_TOO_SLOW: {
			{"WatchSync", codes.ResourceExhausted, func(_ testing.TB, f *fixture) {
				f.journal.failNext = &port.SlowWatcherError{Last: 3}
			}, []string{"RetryInfo"}, []string{"lastSequence"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED: {
			{"StartSync", codes.ResourceExhausted, behind(&engine.LimitError{Subject: long, Limit: 1}), []string{"RetryInfo", "QuotaFailure"}, nil},
		},
		understudyv1.ErrorReason_ERROR_REASON_SERVER_DRAINING: {
			{"GetSync", codes.Unavailable, behind(&drainingError{}), []string{"RetryInfo"}, nil},
		},
		understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED: {
			{"RunSync", codes.FailedPrecondition, ended(failed, codes.FailedPrecondition,
				understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED, failure), []string{"AuthFailure"}, []string{"sync"}},
			{"StartSync", codes.Unavailable, behind(&authError{transient}), []string{"RetryInfo", "AuthFailure", "Help"}, nil},
		},
		understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED: {
			{"RunSync", codes.Unavailable, ended(failed, codes.Unavailable, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED,
				&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)}), []string{"RetryInfo"}, []string{"sync"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND: {
			{"GetSync", codes.NotFound, behind(&port.NotFoundError{Resource: sync}), nil, []string{"resource"}},
			{
				"RunSync", codes.InvalidArgument, behind(&engine.SpecError{Field: "configuration_types[0]", Description: long, Resource: long}),
				[]string{"BadRequest"},
				[]string{"resource"},
			},
		},
		understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID: {
			{"RunSync", codes.InvalidArgument, behind(&engine.SpecError{Field: long, Description: long}), []string{"BadRequest"}, nil},
		},
		understudyv1.ErrorReason_ERROR_REASON_INTERNAL: {
			{"GetSync", codes.Internal, behind(errors.New(long)), nil, []string{"errorId"}},
			{"RunSync", codes.Internal, func(_ testing.TB, f *fixture) {
				f.journal.append(finished(failed, func(s *understudyv1.Sync) {
					s.Error = &rpcstatus.Status{Code: int32(codes.Unavailable), Message: "no reason"}
				}))
			}, nil, []string{"errorId"}},
		},
		understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED: {
			{
				"RunSync", codes.Canceled, ended(cancelled, codes.Canceled, understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED),
				nil,
				[]string{"sync"},
			},
		},
		understudyv1.ErrorReason_ERROR_REASON_SYNC_INTERRUPTED: {
			{
				"RunSync", codes.Aborted, ended(failed, codes.Aborted, understudyv1.ErrorReason_ERROR_REASON_SYNC_INTERRUPTED),
				nil,
				[]string{"sync"},
			},
		},
		understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE: {
			{"ListSyncs", codes.Unavailable, behind(&port.StorageError{Err: errors.New(long)}), []string{"RetryInfo"}, nil},
		},
	}
}

// neverOfACall says why no call ends with a reason.
var neverOfACall = map[understudyv1.ErrorReason]string{
	understudyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:                 "it is never sent",
	understudyv1.ErrorReason_ERROR_REASON_CALLER_NOT_AUTHENTICATED:    "callers are not authenticated yet",
	understudyv1.ErrorReason_ERROR_REASON_CALLER_NOT_PERMITTED:        "callers have no permissions yet",
	understudyv1.ErrorReason_ERROR_REASON_CONFIGURATION_NOT_BACKED_UP: "it is in-band, in ConfigurationResult.error",
}

// Every reason has its code, its metadata and its details, all of them together
// under 4 KiB, and comes through to a client that takes no more than 8 KiB of
// headers, as many proxies do. A reason that is new fails here until it has a row.
func TestEveryReason(t *testing.T) {
	table := productions()
	for number, name := range understudyv1.ErrorReason_name {
		want := understudyv1.ErrorReason(number)
		if (len(table[want]) == 0) == (neverOfACall[want] == "") {
			t.Errorf("%s needs a row, or a reason to have none", name)
		}
		for _, c := range table[want] {
			t.Run(fmt.Sprintf("%s/%s/%s", name, c.rpc, c.code), func(t *testing.T) {
				f := serve(t)
				conn := f.dial(t, grpc.WithMaxHeaderListSize(8<<10))
				defer conn.Close()
				f.client = understudyv1.NewSyncServiceClient(conn)
				c.set(t, f)
				i := slices.IndexFunc(calls(), func(rpc call) bool { return rpc.name == c.rpc })
				checkProduction(t, c, want, calls()[i].do(t.Context(), f))
			})
		}
	}
}

func checkProduction(t *testing.T, want production, wantReason understudyv1.ErrorReason, err error) {
	t.Helper()
	got := status.Convert(err)
	info := detail[*errdetails.ErrorInfo](err)
	if got.Code() != want.code || info.GetReason() != wantReason.String() || info.GetDomain() != "understudy.internal" {
		t.Fatalf("%v %v, want %v %v", got, info, want.code, wantReason)
	}
	var keys, details []string
	for key := range info.GetMetadata() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, d := range got.Details()[1:] {
		details = append(details, string(d.(proto.Message).ProtoReflect().Descriptor().Name()))
	}
	if !slices.Equal(keys, want.metadata) {
		t.Errorf("metadata %v, want %v", keys, want.metadata)
	}
	if !slices.Equal(details, want.details) {
		t.Errorf("details %v, want %v", details, want.details)
	}
	if size := onWire(t, got); size >= 4096 {
		t.Errorf("%d bytes on the wire", size)
	}
	if got.Message() == "" || strings.Contains(got.Message(), "rpc error") {
		t.Errorf("message %q", got.Message())
	}
	if got.Code() == codes.Unauthenticated || got.Code() == codes.PermissionDenied {
		t.Error("this code speaks of the caller")
	}
}

// A thousand wrong values are one status under 4 KiB that names the first.
func TestAThousandViolations(t *testing.T) {
	f := serve(t)
	spec := &understudyv1.SyncSpec{}
	for i := range 1000 {
		spec.ConfigurationTypes = append(spec.ConfigurationTypes, fmt.Sprintf("Ü%d %s", i, strings.Repeat("/", 200)))
	}
	_, err := f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{Parent: contoso, Spec: spec})
	checkProduction(t, production{code: codes.InvalidArgument, details: []string{"BadRequest"}},
		understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID, err)
	violations := detail[*errdetails.BadRequest](err).GetFieldViolations()
	if len(violations) == 0 || violations[0].GetField() != "spec.configuration_types[0]" {
		t.Errorf("violations %v", violations)
	}
}

// While a caller's own context ends, no error of ours is made of it, however the
// storage wraps it.
func TestACallersEndIsNoReason(t *testing.T) {
	seen := make(chan codes.Code, 1)
	f := serve(t, func(c *Config) { c.Observe = func(_ context.Context, call Call) { seen <- call.Code } })
	ctx, cancel := context.WithCancel(t.Context())
	f.engine.cancel = func(inner context.Context, _ string) (*understudyv1.Sync, error) {
		cancel()
		<-inner.Done()
		return nil, fmt.Errorf("reading: %w", errors.Join(io.ErrUnexpectedEOF, inner.Err()))
	}
	_, err := f.client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: syncA})
	if code := <-seen; code != codes.Canceled || status.Code(err) != codes.Canceled {
		t.Errorf("%s, %v", code, err)
	}
}
