package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// authError is a port.AuthError.
type authError struct{ failure *understudyv1.AuthFailure }

func (e *authError) Error() string                          { return "no access " + marker }
func (e *authError) AuthFailure() *understudyv1.AuthFailure { return e.failure }

// call is one way to call the service, with the field names of its request.
type call struct {
	name string
	// spec says that the request has a spec.
	spec bool
	do   func(context.Context, *fixture) error
}

// calls is every RPC that can fail in the engine or the journal.
func calls() []call {
	drain := func(receive func() error) error {
		for {
			if err := receive(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return []call{
		{"RunSync", true, func(ctx context.Context, f *fixture) error {
			stream, err := f.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: contoso})
			if err != nil {
				return err
			}
			return drain(func() error { _, err := stream.Recv(); return err })
		}},
		{"StartSync", true, func(ctx context.Context, f *fixture) error {
			_, err := f.client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: contoso})
			return err
		}},
		{"WatchSync", false, func(ctx context.Context, f *fixture) error {
			stream, err := f.client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: syncA})
			if err != nil {
				return err
			}
			return drain(func() error { _, err := stream.Recv(); return err })
		}},
		{"GetSync", false, func(ctx context.Context, f *fixture) error {
			_, err := f.client.GetSync(ctx, &understudyv1.GetSyncRequest{Name: syncA})
			return err
		}},
		{"ListSyncs", false, func(ctx context.Context, f *fixture) error {
			_, err := f.client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: contoso})
			return err
		}},
		{"ListConfigurationResults", false, func(ctx context.Context, f *fixture) error {
			_, err := f.client.ListConfigurationResults(ctx, &understudyv1.ListConfigurationResultsRequest{Parent: syncA})
			return err
		}},
		{"ListItemChanges", false, func(ctx context.Context, f *fixture) error {
			_, err := f.client.ListItemChanges(ctx, &understudyv1.ListItemChangesRequest{Parent: syncA})
			return err
		}},
		{"CancelSync", false, func(ctx context.Context, f *fixture) error {
			_, err := f.client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: syncA})
			return err
		}},
		{"RetrySync", false, func(ctx context.Context, f *fixture) error {
			_, err := f.client.RetrySync(ctx, &understudyv1.RetrySyncRequest{Name: syncA})
			return err
		}},
	}
}

// failWith makes everything behind the edge fail.
func (f *fixture) failWith(err error) {
	f.journal.fail = err
	f.engine.start = func(context.Context, engine.StartRequest) (*understudyv1.Sync, error) { return nil, err }
	f.engine.retry = func(context.Context, engine.RetryRequest) (*understudyv1.Sync, error) { return nil, err }
	f.engine.cancel = func(context.Context, string) (*understudyv1.Sync, error) { return nil, err }
	f.engine.changes = func(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error] {
		return func(yield func(*understudyv1.ItemChange, error) bool) { yield(nil, err) }
	}
}

// Every RPC answers every error of the engine and the journal with the code, the
// reason, the metadata and the details that error_reason.proto promises.
func TestEveryErrorOfEveryMethod(t *testing.T) {
	retry := func(d time.Duration) proto.Message { return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)} }
	bad := func(field, description string) proto.Message {
		return &errdetails.BadRequest{FieldViolations: invalidField(field, description).violations}
	}
	failure := &understudyv1.AuthFailure{
		Reason:  understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED,
		Message: "User authentication failed - …",
	}
	helped := proto.CloneOf(failure)
	helped.HelpUri = "https://help.example/help/conditional-access-blocked"
	transient := &understudyv1.AuthFailure{
		Reason:  understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE,
		HelpUri: "https://other.example/x", Retryable: true, RetryDelay: durationpb.New(time.Minute),
	}
	help := func(uri string) proto.Message {
		return &errdetails.Help{Links: []*errdetails.Help_Link{
			{Description: "What this failure means and how to mend it", Url: uri},
		}}
	}
	for _, c := range []struct {
		name     string
		err      error
		code     codes.Code
		reason   understudyv1.ErrorReason
		metadata map[string]string
		details  []proto.Message
	}{
		{
			"not found", &port.NotFoundError{Resource: contoso}, codes.NotFound,
			understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
			map[string]string{"resource": contoso},
			nil,
		},
		{
			"running", &port.SyncRunningError{Sync: syncA}, codes.Aborted,
			understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_RUNNING,
			map[string]string{"sync": syncA},
			nil,
		},
		{
			"finished", &port.SyncFinishedError{Sync: syncA, State: understudyv1.SyncState_SYNC_STATE_FAILED},
			codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_FINISHED,
			map[string]string{"sync": syncA, "state": "SYNC_STATE_FAILED"},
			nil,
		},
		{
			"nothing to retry", &engine.NothingToRetryError{Sync: syncA, State: understudyv1.SyncState_SYNC_STATE_RUNNING},
			codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_NOTHING_TO_RETRY,
			map[string]string{"sync": syncA, "state": "SYNC_STATE_RUNNING"},
			nil,
		},
		{
			"request id reused", &port.RequestIDReusedError{RequestID: "x"}, codes.InvalidArgument,
			understudyv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED, nil,
			[]proto.Message{bad("request_id", "was used with other arguments; use a new one")},
		},
		{
			"trimmed", &port.TrimmedError{After: 3, Oldest: 9}, codes.OutOfRange,
			understudyv1.ErrorReason_ERROR_REASON_EVENTS_TRIMMED,
			map[string]string{"oldestSequence": "9"},
			nil,
		},
		{
			"future", &port.SequenceInFutureError{After: 30, Last: 9}, codes.OutOfRange,
			understudyv1.ErrorReason_ERROR_REASON_SEQUENCE_IN_FUTURE,
			map[string]string{"lastSequence": "9"},
			nil,
		},
		{
			"limit", &engine.LimitError{Subject: "queued syncs", Limit: 7}, codes.ResourceExhausted,
			understudyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, nil,
			[]proto.Message{retry(retryLimit), &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
				{Subject: "queued syncs", Description: "at most 7 queued syncs at a time"},
			}}},
		},
		{
			"storage", &port.StorageError{Err: errors.New("disk full " + marker)}, codes.Unavailable,
			understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE, nil,
			[]proto.Message{retry(retryStorage)},
		},
		{
			"wrapped", fmt.Errorf("listing %s: %w", marker, &port.StorageError{Err: errors.New(marker)}), codes.Unavailable,
			understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE, nil,
			[]proto.Message{retry(retryStorage)},
		},
		{
			"authentication", &authError{failure}, codes.FailedPrecondition,
			understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED, nil,
			[]proto.Message{helped, help(helped.GetHelpUri())},
		},
		{
			"transient authentication", &authError{transient}, codes.Unavailable,
			understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED, nil,
			[]proto.Message{retry(time.Minute), transient, help(transient.GetHelpUri())},
		},
		{
			"unknown", fmt.Errorf("graph said: %w", errors.New(marker)), codes.Internal,
			understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
			map[string]string{"errorId": "*"},
			nil,
		},
		{
			"a foreign status", status.Error(codes.PermissionDenied, marker), codes.Internal,
			understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
			map[string]string{"errorId": "*"},
			nil,
		},
		{
			"a foreign context", context.Canceled, codes.Internal,
			understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
			map[string]string{"errorId": "*"},
			nil,
		},
	} {
		log := &lockedBuffer{}
		f := serve(t, func(config *Config) {
			config.HelpBaseURL = "https://help.example/help/"
			config.Logger = slog.New(slog.NewJSONHandler(log, nil))
		})
		f.failWith(c.err)
		for _, rpc := range calls() {
			t.Run(c.name+"/"+rpc.name, func(t *testing.T) {
				err := rpc.do(t.Context(), f)
				got := status.Convert(err)
				if got.Code() != c.code || reason(err) != c.reason.String() {
					t.Fatalf("%v %s, want %v %s", got, reason(err), c.code, c.reason)
				}
				if strings.Contains(got.Proto().String(), marker) {
					t.Errorf("the cause is in the status: %v", got.Proto())
				}
				info := detail[*errdetails.ErrorInfo](err)
				if info.GetDomain() != "understudy.internal" {
					t.Errorf("domain %q", info.GetDomain())
				}
				if c.metadata["errorId"] == "*" {
					id := info.GetMetadata()["errorId"]
					if len(id) != 36 || !strings.Contains(log.String(), `"error_id":"`+id+`"`) {
						t.Errorf("error id %q is not in the log:\n%s", id, log)
					}
				} else if d := diff(c.metadata, info.GetMetadata()); d != "" && len(c.metadata)+len(info.GetMetadata()) > 0 {
					t.Error(d)
				}
				var rest []proto.Message
				for _, d := range got.Details()[1:] {
					rest = append(rest, d.(proto.Message))
				}
				if d := diff(c.details, rest); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

// A spec that cannot be carried out names its field in the request.
func TestSpecErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    *engine.SpecError
		rpc    string
		field  string
		reason understudyv1.ErrorReason
	}{
		{
			"start", &engine.SpecError{Field: "authentication_policy", Description: "no user is configured."}, "StartSync",
			"spec.authentication_policy", understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
		},
		{
			"unknown type", &engine.SpecError{Field: "configuration_types[2]", Description: "unknown", Resource: "entra/x"},
			"RunSync", "spec.configuration_types[2]", understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
		},
		{
			"retry", &engine.SpecError{Field: "authentication_policy", Description: "no user is configured"}, "RetrySync",
			"authentication_policy", understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
		},
		{
			"retry of an old spec", &engine.SpecError{Field: "accept_collapse[0]", Description: "gone", Resource: "a/b"},
			"RetrySync", "name", understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := serve(t)
			f.failWith(c.err)
			for _, rpc := range calls() {
				if rpc.name != c.rpc {
					continue
				}
				err := rpc.do(t.Context(), f)
				violations := detail[*errdetails.BadRequest](err).GetFieldViolations()
				if status.Code(err) != codes.InvalidArgument || reason(err) != c.reason.String() ||
					len(violations) != 1 || violations[0].GetField() != c.field {
					t.Errorf("%v %s %v", err, reason(err), violations)
				}
				if message := status.Convert(err).Message(); strings.HasSuffix(message, "..") || !strings.HasSuffix(message, ".") {
					t.Errorf("message %q", message)
				}
				if want := detail[*errdetails.ErrorInfo](err).GetMetadata()["resource"]; c.rpc == "RunSync" && want != "entra/x" {
					t.Errorf("resource %q", want)
				}
			}
		})
	}
}

// A caller that leaves, or whose deadline passes, is not an error of the server;
// the server's own bound is.
func TestTimeouts(t *testing.T) {
	block := func(ctx context.Context, _ string) (*understudyv1.Sync, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("waiting: %w", ctx.Err())
	}
	t.Run("caller's deadline", func(t *testing.T) {
		seen := make(chan codes.Code, 1)
		f := serve(t, func(c *Config) { c.Observe = func(_ context.Context, call Call) { seen <- call.Code } })
		f.engine.cancel = block
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := f.client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: syncA})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
		if code := <-seen; code != codes.DeadlineExceeded && code != codes.Canceled {
			t.Errorf("the server says %s", code)
		}
	})
	t.Run("caller cancels", func(t *testing.T) {
		seen := make(chan codes.Code, 1)
		f := serve(t, func(c *Config) { c.Observe = func(_ context.Context, call Call) { seen <- call.Code } })
		ctx, cancel := context.WithCancel(t.Context())
		f.engine.cancel = func(inner context.Context, name string) (*understudyv1.Sync, error) {
			cancel()
			return block(inner, name)
		}
		_, err := f.client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: syncA})
		if status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		if code := <-seen; code != codes.Canceled {
			t.Errorf("the server says %s", code)
		}
	})
	t.Run("server's bound", func(t *testing.T) {
		f := serve(t, func(c *Config) { c.UnaryTimeout = 20 * time.Millisecond })
		f.engine.cancel = block
		_, err := f.client.CancelSync(t.Context(), &understudyv1.CancelSyncRequest{Name: syncA})
		if status.Code(err) != codes.Unavailable ||
			reason(err) != understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE.String() ||
			detail[*errdetails.RetryInfo](err) == nil {
			t.Errorf("%v %s", err, reason(err))
		}
	})
}

// A panic anywhere ends one call, says nothing to the client, and is logged with
// its stack.
func TestPanics(t *testing.T) {
	for _, c := range []struct {
		name string
		rpc  string
		set  func(*fixture)
	}{
		{"unary", "CancelSync", func(f *fixture) {
			f.engine.cancel = func(context.Context, string) (*understudyv1.Sync, error) { panic(marker) }
		}},
		{"stream handler", "RunSync", func(f *fixture) {
			f.engine.start = func(context.Context, engine.StartRequest) (*understudyv1.Sync, error) {
				panic(errors.New(marker))
			}
		}},
		{"watcher", "WatchSync", func(f *fixture) { f.journal.panicNext = true }},
		{"iterator", "ListItemChanges", func(f *fixture) {
			f.engine.changes = func(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error] {
				return func(func(*understudyv1.ItemChange, error) bool) { panic(marker) }
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &lockedBuffer{}
			f := serve(t, func(config *Config) { config.Logger = slog.New(slog.NewJSONHandler(log, nil)) })
			c.set(f)
			for _, rpc := range calls() {
				if rpc.name != c.rpc {
					continue
				}
				err := rpc.do(t.Context(), f)
				if status.Code(err) != codes.Internal || reason(err) != understudyv1.ErrorReason_ERROR_REASON_INTERNAL.String() {
					t.Errorf("%v %s", err, reason(err))
				}
				if text := status.Convert(err).Proto().String(); strings.Contains(text, marker) || strings.Contains(text, "_test.go") {
					t.Errorf("leaked: %s", text)
				}
			}
			if _, err := f.client.ListConfigurationTypes(t.Context(), &understudyv1.ListConfigurationTypesRequest{}); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if !strings.Contains(log.String(), "status_test.go") && !strings.Contains(log.String(), "harness_test.go") {
				t.Errorf("the stack is not in the log:\n%s", log)
			}
		})
	}
}

func TestRedacted(t *testing.T) {
	for _, c := range []struct{ in, gone, stays string }{
		{"GET https://x.example/a?code=0.AbC&state=1 failed", "0.AbC", "https://x.example/a"},
		{"token eyJhbGciOi.eyJhdWQi.c2ln-bmF0dXJl refused", "c2ln", "token"},
		{"secret Zz8~qwertyuiopasdfghjklzxcvbnm1234567890.X wrong", "qwerty", "wrong"},
		{"tenants/contoso/syncs/01jd2v9y0000000000000000zz", "", "01jd2v9y0000000000000000zz"},
		{"id 0f8fad5b-d9cb-469f-a165-70867728950e", "", "0f8fad5b-d9cb-469f-a165-70867728950e"},
		{strings.Repeat("long text ", 1000) + "end", "end", "long text"},
	} {
		got := redacted(c.in)
		if (c.gone != "" && strings.Contains(got, c.gone)) || !strings.Contains(got, c.stays) || len(got) > maxLogged {
			t.Errorf("redacted(%.60q) = %.200q", c.in, got)
		}
	}
}
