package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// errorDomain is the domain of every ErrorInfo of this service.
const errorDomain = "understudy.internal"

// How long to wait before trying again, by what has to pass.
const (
	retryReconnect = time.Second
	retryLimit     = 5 * time.Second
	retryStorage   = 5 * time.Second
)

// mapper turns errors into statuses.
type mapper struct {
	logger      *slog.Logger
	helpBaseURL string
	ending      <-chan struct{}
}

// problem is a status before it is encoded.
type problem struct {
	code     codes.Code
	reason   understudyv1.ErrorReason
	message  string
	metadata map[string]string
	// details follow the ErrorInfo.
	details []proto.Message
}

// statusOf turns the error of a call into the status that its client gets. ctx
// is that of the call. What the edge does not know becomes INTERNAL with a
// neutral text and an error id that the log has too.
func (m *mapper) statusOf(ctx context.Context, err error) *status.Status {
	var (
		ended   *syncError
		refused *receiveError
	)
	switch {
	case errors.As(err, &ended):
		return m.syncStatus(ctx, ended)
	case errors.As(err, &refused):
		return refused.status
	}
	if s := m.callerStatus(ctx, err); s != nil {
		return s
	}
	for _, known := range []func(error) *problem{m.requestProblem, m.syncProblem, m.serverProblem, m.authProblem} {
		if p := known(err); p != nil {
			if p.code == codes.Unavailable {
				level := slog.LevelWarn
				if p.reason == understudyv1.ErrorReason_ERROR_REASON_SERVER_DRAINING {
					level = slog.LevelInfo // an orderly end
				}
				m.logger.Log(ctx, level, "cannot serve", "request_id", requestID(ctx), "error", redacted(err.Error()))
			}
			return p.status()
		}
	}
	return m.internal(ctx, err)
}

// status encodes a problem, within the limits of [newStatus].
func (p *problem) status() *status.Status {
	info := &errdetails.ErrorInfo{Reason: p.reason.String(), Domain: errorDomain, Metadata: p.metadata}
	return newStatus(p.code, p.message, append([]proto.Message{info}, p.details...)...)
}

// callerStatus is the status when the caller itself ended the call. It has no
// details: the caller makes this status on its own, and mostly does not see ours.
func (m *mapper) callerStatus(ctx context.Context, err error) *status.Status {
	var lost *lostError
	switch {
	case errors.As(err, &lost):
		return status.New(codes.Canceled, "The connection was lost.")
	case ctx.Err() == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, "The deadline of the call passed.")
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "The call was cancelled.")
	default:
		return nil
	}
}

// requestProblem explains what is wrong with a request.
func (m *mapper) requestProblem(err error) *problem {
	var (
		invalid *invalidError
		unknown *unknownTypeError
		spec    *engine.SpecError
		reused  *port.RequestIDReusedError
	)
	switch {
	case errors.As(err, &invalid):
		return &problem{
			codes.InvalidArgument, understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
			sentence("The request is not valid: " + invalid.Error()), nil,
			[]proto.Message{&errdetails.BadRequest{FieldViolations: invalid.violations}},
		}
	case errors.As(err, &unknown):
		return unknownType(unknown.field, unknown.id, "no such configuration type; ListConfigurationTypes returns those there are")
	case errors.As(err, &spec) && spec.Resource != "":
		return unknownType("spec."+spec.Field, spec.Resource, spec.Description)
	case errors.As(err, &spec):
		return m.requestProblem(invalidField("spec."+spec.Field, spec.Description))
	case errors.As(err, &reused):
		return &problem{
			codes.InvalidArgument, understudyv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED,
			"The request_id was used with other arguments within 24 hours. Use a new one for a new request.", nil,
			badRequest("request_id", "was used with other arguments; use a new one"),
		}
	default:
		return nil
	}
}

// unknownType is the problem of a field that names an unknown configuration type.
func unknownType(field, id, description string) *problem {
	return &problem{
		codes.InvalidArgument, understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
		sentence(fmt.Sprintf("The request is not valid: %s: %s", field, description)),
		map[string]string{"resource": id},
		badRequest(field, description),
	}
}

// sentence ends a text with one full stop.
func sentence(text string) string { return strings.TrimRight(text, ". ") + "." }

// badRequest is the detail about one field.
func badRequest(field, description string) []proto.Message {
	return []proto.Message{&errdetails.BadRequest{FieldViolations: invalidField(field, description).violations}}
}

// syncProblem explains what stands against a call in the state of a sync.
func (m *mapper) syncProblem(err error) *problem {
	var (
		missing  *port.NotFoundError
		running  *port.SyncRunningError
		finished *port.SyncFinishedError
		nothing  *engine.NothingToRetryError
		future   *port.SequenceInFutureError
		trimmed  *port.TrimmedError
	)
	switch {
	case errors.As(err, &missing):
		advice := "Check the name, or add the tenant to the configuration of the server."
		if strings.Contains(missing.Resource, "/syncs/") {
			advice = "Check the name; ListSyncs returns those that are kept."
		}
		return &problem{
			codes.NotFound, understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
			missing.Resource + " does not exist here. " + advice,
			map[string]string{"resource": missing.Resource},
			nil,
		}
	case errors.As(err, &running):
		return &problem{
			codes.Aborted, understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_RUNNING,
			"A sync of the tenant is running: " + running.Sync + ". Watch it with WatchSync, or end it with CancelSync.",
			map[string]string{"sync": running.Sync},
			nil,
		}
	case errors.As(err, &finished):
		return &problem{
			codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_FINISHED,
			fmt.Sprintf("%s cannot be cancelled any more: its state is %s.", finished.Sync, finished.State),
			map[string]string{"sync": finished.Sync, "state": finished.State.String()},
			nil,
		}
	case errors.As(err, &nothing):
		return &problem{
			codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_NOTHING_TO_RETRY,
			fmt.Sprintf("There is nothing to retry of %s: its state is %s. Only a finished sync that left something out can be "+
				"retried.", nothing.Sync, nothing.State),
			map[string]string{"sync": nothing.Sync, "state": nothing.State.String()},
			nil,
		}
	case errors.As(err, &future):
		return &problem{
			codes.OutOfRange, understudyv1.ErrorReason_ERROR_REASON_SEQUENCE_IN_FUTURE,
			fmt.Sprintf("after_sequence is %d, but the last event has %d. Pass the greatest sequence that you received of this sync.",
				future.After, future.Last),
			map[string]string{"lastSequence": strconv.FormatInt(future.Last, 10)},
			nil,
		}
	case errors.As(err, &trimmed):
		return &problem{
			codes.OutOfRange, understudyv1.ErrorReason_ERROR_REASON_EVENTS_TRIMMED,
			fmt.Sprintf("The events after %d are no longer kept; the oldest is %d. GetSync returns the sync as it stands.",
				trimmed.After, trimmed.Oldest),
			map[string]string{"oldestSequence": strconv.FormatInt(trimmed.Oldest, 10)},
			nil,
		}
	default:
		return nil
	}
}

// serverProblem explains what the server cannot do now.
func (m *mapper) serverProblem(err error) *problem {
	var (
		draining *drainingError
		reader   *slowReaderError
		slow     *slowCallError
		limit    *engine.LimitError
		storage  *port.StorageError
	)
	switch {
	case errors.As(err, &reader):
		return &problem{
			codes.ResourceExhausted, understudyv1.ErrorReason_ERROR_REASON_WATCHER_TOO_SLOW,
			fmt.Sprintf("The events were read too slowly. Resume with WatchSync after_sequence %d.", reader.last),
			map[string]string{"lastSequence": strconv.FormatInt(reader.last, 10)},
			retryAfter(retryReconnect),
		}
	case errors.As(err, &limit):
		text := fmt.Sprintf("at most %d %s at a time", limit.Limit, limit.Subject)
		return &problem{
			codes.ResourceExhausted, understudyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED,
			"A limit of this server is reached: " + text + ". Try again later.", nil,
			append(retryAfter(retryLimit), &errdetails.QuotaFailure{
				Violations: []*errdetails.QuotaFailure_Violation{{Subject: limit.Subject, Description: text}},
			}),
		}
	case errors.As(err, &draining), m.isEnding() && isContextError(err):
		return &problem{
			codes.Unavailable, understudyv1.ErrorReason_ERROR_REASON_SERVER_DRAINING,
			"The server is about to stop. Reconnect; a watch resumes after the last sequence received.",
			nil, retryAfter(retryReconnect),
		}
	case errors.As(err, &storage):
		return &problem{
			codes.Unavailable, understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE,
			"The service cannot read or write its storage now. Try again; if it lasts, its operator has to act.",
			nil, retryAfter(retryStorage),
		}
	case errors.As(err, &slow):
		return &problem{
			codes.Unavailable, understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE,
			fmt.Sprintf("The storage of the service did not answer within %s. Try again; what starts a sync is safe to repeat "+
				"with the same request_id.", slow.bound), nil, retryAfter(retryStorage),
		}
	default:
		return nil
	}
}

// retryAfter is the detail that says how long to wait.
func retryAfter(delay time.Duration) []proto.Message {
	return []proto.Message{&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}}
}

// isContextError says whether an error is that of a context.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// isEnding says whether the server ends its calls.
func (m *mapper) isEnding() bool {
	select {
	case <-m.ending:
		return true
	default:
		return false
	}
}

// internal logs an error that the edge does not know, and answers an id to find
// it by.
func (m *mapper) internal(ctx context.Context, err error) *status.Status {
	id := uuid.NewString()
	attributes := []any{
		"error_id", id, "request_id", requestID(ctx), "error", redacted(err.Error()), "types", typesOf(err),
	}
	var panicked *panicError
	if errors.As(err, &panicked) {
		attributes = append(attributes, "stack", string(panicked.stack))
	}
	m.logger.ErrorContext(ctx, "internal error", attributes...)
	p := &problem{
		codes.Internal, understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
		"An error inside the service; it is logged. Quote " + id + " to its operator.",
		map[string]string{"errorId": id},
		nil,
	}
	return p.status()
}
