package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// jsonEvents reads what --json wrote; nothing else may be there.
func jsonEvents(t *testing.T, out string) []*understudyv1.SyncEvent {
	t.Helper()
	var events []*understudyv1.SyncEvent
	for line := range strings.Lines(out) {
		event := &understudyv1.SyncEvent{}
		if err := protojson.Unmarshal([]byte(line), event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, event)
	}
	return events
}

// --json prints every event as it came, the codes of a prompt too, one a line.
func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := partialSync(t)
		f.events = slices.Insert(f.events, 1, promptEvent(time.Minute), progressEvent(3),
			&understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Heartbeat{Heartbeat: &understudyv1.Heartbeat{}}})
		got := showSync(t.Context(), t, &syncCommand{JSON: true}, f, 0)
		events := jsonEvents(t, got.out)
		if events[0].GetCurrentState().GetSync().GetName() != fakeSync {
			t.Errorf("first: %v", events[0])
		}
		for _, event := range events {
			event.Sequence = 0
		}
		if d := cmp.Diff(f.events, events[1:], protocmp.Transform()); d != "" {
			t.Error(d)
		}
		if got.code != exitPartial || got.err != "" || got.message != "" || strings.Count(got.out, "\n") != len(events) {
			t.Errorf("code %d, %q %q", got.code, got.err, got.message)
		}
	})
}

// A stream that breaks after every single message is resumed where it broke: the
// client shows every durable event once, and starts one sync.
func TestResumeOfAClient(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken error
	}{
		{"draining", statusWith(t, codes.Unavailable, "x", errorInfo(understudyv1.ErrorReason_ERROR_REASON_SERVER_DRAINING, nil),
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})},
		{"too slow", statusWith(t, codes.ResourceExhausted, "x", errorInfo(understudyv1.ErrorReason_ERROR_REASON_WATCHER_TOO_SLOW, nil))},
		{"a proxy", statusWith(t, codes.Internal, "stream terminated by RST_STREAM")},
		{"an end that is none", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := partialSync(t)
				f.broken = c.broken
				// The first two streams bring nothing new, the others one event each.
				f.cuts = []int{1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2}
				got := showSync(t.Context(), t, &syncCommand{JSON: true}, f, 0)
				var sequences []int64
				for _, event := range jsonEvents(t, got.out) {
					if event.GetCurrentState() == nil {
						sequences = append(sequences, event.GetSequence())
					}
				}
				if want := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(sequences, want) || got.code != exitPartial {
					t.Errorf("code %d %q, sequences %v", got.code, got.message, sequences)
				}
				requests := f.received()
				if _, ok := requests[0].(*understudyv1.RunSyncRequest); !ok {
					t.Errorf("first %T", requests[0])
				}
				for i, request := range requests[1:] {
					want := &understudyv1.WatchSyncRequest{Name: fakeSync, AfterSequence: int64(max(i-1, 0))}
					if d := cmp.Diff(proto.Message(want), request, protocmp.Transform()); d != "" {
						t.Errorf("request %d: %s", i+1, d)
					}
				}
			})
		})
	}
}

// A sync whose start was not answered is asked for again with the same request_id.
func TestStartIsRepeatedWithItsRequestID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := partialSync(t)
		f.broken, f.cuts = statusWith(t, codes.Unavailable, "x"), []int{0, 0}
		if got := showSync(t.Context(), t, &syncCommand{}, f, 0); got.code != exitPartial {
			t.Errorf("code %d %q", got.code, got.message)
		}
		requests := f.received()
		if d := cmp.Diff([]proto.Message{requests[0], requests[0], requests[0]}, requests, protocmp.Transform()); d != "" ||
			len(requests[0].(*understudyv1.RunSyncRequest).GetRequestId()) != 36 {
			t.Errorf("%v", requests)
		}
	})
}

// Resuming is bounded, waits as long as the server asks, and ends at an error that
// it cannot mend.
func TestResumingEnds(t *testing.T) {
	slow := &errdetails.RetryInfo{RetryDelay: durationpb.New(40 * time.Second)}
	for _, c := range []struct {
		name   string
		broken error
		cuts   []int
		// streams are how many are tried, within how long.
		streams       int
		atLeast, most time.Duration
		says          string
		code          int
	}{
		{"no server", statusWith(t, codes.Unavailable, "refused"), []int{0, 0, 0, 0}, startAttempts, 0, 5 * time.Second, "--address names another", exitAway},
		{
			"nothing new", statusWith(t, codes.Unavailable, "lost", slow), slices.Repeat([]int{1}, 20), resumeAttempts,
			9 * 40 * time.Second, 10 * 40 * time.Second, "understudy sync --watch " + fakeSync, exitAway,
		},
		{
			"a wait without end", statusWith(t, codes.Unavailable, "lost", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Hour)}),
			slices.Repeat([]int{1}, 20), resumeAttempts, 9 * time.Minute, 10 * time.Minute, "try again: in 1h0m0s", exitAway,
		},
		{
			"trimmed", statusWith(t, codes.OutOfRange, "gone", errorInfo(understudyv1.ErrorReason_ERROR_REASON_EVENTS_TRIMMED, nil)),
			[]int{2},
			1, 0, 0, "understudy help ERROR_REASON_EVENTS_TRIMMED", exitFailed,
		},
		{
			"a bug", statusWith(t, codes.Internal, "bug", errorInfo(understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
				map[string]string{"errorId": "e1"})), []int{2}, 1, 0, 0, "errorId: e1", exitFailed,
		},
		{"nothing to start with", statusWith(t, codes.Internal, "proxy"), []int{0}, 1, 0, 0, "code: INTERNAL", exitAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := partialSync(t)
				f.broken, f.cuts = c.broken, c.cuts
				start := time.Now()
				got := showSync(t.Context(), t, &syncCommand{}, f, 0)
				if took := time.Since(start); took < c.atLeast || took > c.most {
					t.Errorf("took %s", took)
				}
				if len(f.received()) != c.streams || got.code != c.code || got.out != "" || !strings.Contains(got.message, c.says) {
					t.Errorf("%d streams, code %d, %q, %q", len(f.received()), got.code, got.message, got.out)
				}
			})
		})
	}
}

// Ctrl-C leaves the sync running and says how to come back, unless it is to be
// cancelled.
func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		name    string
		command syncCommand
		cuts    []int
		cancels bool
		want    string
	}{
		{"goes on", syncCommand{}, []int{-2}, false, `Interrupted. The sync goes on: tenants/contoso/syncs/01a
  Watch it again: understudy sync --watch tenants/contoso/syncs/01a
  Cancel it:      understudy sync --cancel tenants/contoso/syncs/01a`},
		{
			"cancelled",
			syncCommand{CancelOnDisconnect: true},
			[]int{-2},
			true,
			"Interrupted. The sync is being cancelled: tenants/contoso/syncs/01a\n  Watch it end: understudy sync --watch tenants/contoso/syncs/01a",
		},
		{
			"a retry is cancelled",
			syncCommand{Retry: fakeSync, CancelOnDisconnect: true},
			[]int{-2},
			true,
			"Interrupted. The sync is being cancelled: tenants/contoso/syncs/01a\n  Watch it end: understudy sync --watch tenants/contoso/syncs/01a",
		},
		{
			"while it waits to resume",
			syncCommand{},
			slices.Repeat([]int{1}, 20), false,
			"Interrupted. The sync goes on: tenants/contoso/syncs/01a\n  Watch it again",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := partialSync(t)
				f.cuts, f.broken = c.cuts, statusWith(t, codes.Unavailable, "x")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				got := showSync(ctx, t, &c.command, f, 30)
				if !strings.HasPrefix(got.message, c.want) || got.code != exitFailed || got.out != "" {
					t.Errorf("code %d, %s", got.code, cmp.Diff(c.want, got.message))
				}
				cancels := slices.ContainsFunc(f.received(), func(m proto.Message) bool {
					return cmp.Equal(m, proto.Message(&understudyv1.CancelSyncRequest{Name: fakeSync}), protocmp.Transform())
				})
				if cancels != c.cancels {
					t.Errorf("cancelled: %v", cancels)
				}
			})
		})
	}
}

func TestInterruptedBeforeAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got := showSync(ctx, t, &syncCommand{}, partialSync(t), 0)
		if !strings.HasPrefix(got.message, "Interrupted before the server answered.") || got.code != exitFailed {
			t.Errorf("code %d, %q", got.code, got.message)
		}
	})
}

// Errors of calls are told with their reason, the flags that are wrong, and what
// to do.
func TestErrorsOfCalls(t *testing.T) {
	violation := func(field, description string) *errdetails.BadRequest_FieldViolation {
		return &errdetails.BadRequest_FieldViolation{Field: field, Description: description}
	}
	for _, c := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{
			"running", statusWith(t, codes.Aborted, "A sync of the tenant is running.",
				errorInfo(understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_RUNNING, map[string]string{"sync": fakeSync})), exitFailed,
			`A sync of the tenant is running.
  reason: ERROR_REASON_SYNC_ALREADY_RUNNING (ABORTED)
  sync: tenants/contoso/syncs/01a
  what to do: watch it: understudy sync --watch tenants/contoso/syncs/01a
  what to do: or cancel it: understudy sync --cancel tenants/contoso/syncs/01a`,
		},
		{
			"fields", statusWith(t, codes.InvalidArgument, "The request is not valid.",
				errorInfo(understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID, nil),
				&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
					violation("parent", "must have the form tenants/{tenant}"),
					violation("spec.configuration_types[2]", "must be an id"),
					violation("spec.authentication_policy", "no user"),
					violation("heartbeat_interval", "too short"),
				}}), exitUsage,
			`The request is not valid.
  reason: ERROR_REASON_REQUEST_INVALID (INVALID_ARGUMENT)
  TENANT: must have the form tenants/{tenant}
  --configuration-type, value 3: must be an id
  --policy: no user
  heartbeat_interval: too short
  what to do: understudy help ERROR_REASON_REQUEST_INVALID`,
		},
		{
			"help", statusWith(t, codes.FailedPrecondition, "No access.",
				errorInfo(understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED, nil),
				&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "https://help.example/x"}}}), exitFailed,
			`No access.
  reason: ERROR_REASON_TENANT_AUTHENTICATION_FAILED (FAILED_PRECONDITION)
  what to do: read https://help.example/x`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, command := range []syncCommand{{}, {Retry: fakeSync}, {Watch: "01a", Tenant: "contoso"}, {Cancel: fakeSync}} {
					got := showSync(t.Context(), t, &command, &fakeSyncs{fail: c.err}, 0)
					if d := cmp.Diff(c.want, got.message); d != "" || got.code != c.code || got.out != "" {
						t.Errorf("code %d, %q %s", got.code, got.out, d)
					}
				}
			})
		})
	}
}

// --retry, --watch and --cancel ask for what they say.
func TestOtherWaysToBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watch := &understudyv1.WatchSyncRequest{Name: fakeSync}
		f := partialSync(t)
		got := showSync(t.Context(), t, &syncCommand{
			Retry: "01z", Tenant: "contoso", NoPrompt: true, Comment: "why", Policy: "require-user",
		}, f, 0)
		requests := f.received()
		retry := requests[0].(*understudyv1.RetrySyncRequest)
		if len(retry.GetRequestId()) != 36 {
			t.Errorf("request_id %q", retry.GetRequestId())
		}
		retry.RequestId = ""
		if d := cmp.Diff([]proto.Message{&understudyv1.RetrySyncRequest{
			Name: "tenants/contoso/syncs/01z", AllowPrompt: proto.Bool(false), Comment: "why",
			AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
		}, watch}, requests, protocmp.Transform()); d != "" || got.code != exitPartial || !strings.HasPrefix(got.out, fakeSync) {
			t.Errorf("code %d %q %s", got.code, got.out, d)
		}

		f = partialSync(t)
		got = showSync(t.Context(), t, &syncCommand{Watch: fakeSync}, f, 0)
		if d := cmp.Diff([]proto.Message{watch}, f.received(), protocmp.Transform()); d != "" || got.code != exitPartial {
			t.Errorf("code %d %s", got.code, d)
		}

		f = &fakeSyncs{}
		got = showSync(t.Context(), t, &syncCommand{Cancel: fakeSync}, f, 0)
		if want := fakeSync + ": CANCELLING\n"; got.out != want || got.code != exitOK || got.message != "" {
			t.Errorf("code %d %q %q", got.code, got.out, got.message)
		}
		got = showSync(t.Context(), t, &syncCommand{Cancel: fakeSync, JSON: true}, f, 0)
		sync := &understudyv1.Sync{}
		if err := protojson.Unmarshal([]byte(got.out), sync); err != nil || sync.GetName() != fakeSync {
			t.Errorf("%q %v", got.out, err)
		}
	})
}

// Wrong usage is said before any call, with the exit code 64.
func TestSyncUsage(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"", "understudy sync TENANT"},
		{"contoso --policy tenant", `--policy "tenant" is none of continue-without-user, require-user, service-principal-only`},
		{"--retry tenants/a/syncs/1 --policy never", `--policy "never"`},
		{"contoso --allow-prompt --no-prompt", "--no-prompt"},
		{"contoso --timeout=-1s", "--timeout"},
		{"contoso --timeout=soon", "--timeout"},
		{"contoso --retry tenants/fabrikam/syncs/1", "a sync of fabrikam, not of contoso"},
		{"--retry 1", "tenants/{tenant}/syncs/{sync}"},
		{"--retry tenants/a/syncs/1 --watch tenants/a/syncs/1", "--watch"},
		{"--retry tenants/a/syncs/1 --dry-run", "--dry-run cannot be used with --retry"},
		{"--retry tenants/a/syncs/1 -t entra/*", "--configuration-type cannot be used with --retry"},
		{"--watch tenants/a/syncs/1 --policy require-user", "--policy cannot be used with --watch"},
		{"--cancel tenants/a/syncs/1 --comment x", "--comment cannot be used with --cancel"},
		{"contoso --address backup.example:8443", "plain text"},
		{"contoso --address 127.0.0.1:8443,backup.example:8443", "backup.example:8443 is not on this machine"},
		{"contoso --address 127.0.0.1:8443,localhost", "localhost is not HOST:PORT"},
		{"contoso --ca-file /does/not/exist", "/does/not/exist"},
		{"contoso --ca-file sync.go", "no certificate"},
		{"contoso --certificate sync.go", "--key"},
		{"contoso --certificate sync.go --key sync.go", "--certificate"},
		{"contoso fabrikam", "fabrikam"},
	} {
		args := append([]string{"sync"}, strings.Fields(c.args)...)
		code, out, stderr := command(t, args...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: code %d, %q, %q", c.args, code, out, stderr)
		}
	}
}
