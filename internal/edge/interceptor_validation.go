package edge

import (
	"context"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	validation "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// requests returns every request type, so that their rules are compiled before
// the first call.
func requests() []protoreflect.MessageDescriptor {
	var messages []protoreflect.MessageDescriptor
	services := understudyv1.File_understudy_v1_sync_service_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			messages = append(messages, methods.Get(j).Input())
		}
	}
	return messages
}

// validationLink checks every request against the rules that stand in the
// contract.
func validationLink(validator protovalidate.Validator) link {
	unary := validation.UnaryServerInterceptor(validator)
	stream := validation.StreamServerInterceptor(validator)
	return link{
		name: "validation",
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := durationsValid(req); err != nil {
				return nil, err
			}
			valid := false
			response, err := unary(ctx, req, info, func(ctx context.Context, req any) (any, error) {
				valid = true
				return handler(ctx, req)
			})
			if err != nil && !valid {
				return nil, violated(err)
			}
			return response, err
		},
		stream: func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return stream(srv, s, info, func(srv any, s grpc.ServerStream) error {
				return handler(srv, &validatedStream{s})
			})
		},
	}
}

// validatedStream turns violations into an [*invalidError].
type validatedStream struct{ grpc.ServerStream }

// RecvMsg implements [grpc.ServerStream].
func (s *validatedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return violated(err)
	}
	return durationsValid(message)
}

// violated turns the status of the validation middleware into an
// [*invalidError]; other errors stay.
func violated(err error) error {
	for _, detail := range status.Convert(err).Details() {
		found, ok := detail.(*validate.Violations)
		if !ok {
			continue
		}
		invalid := &invalidError{}
		for _, v := range found.GetViolations() {
			invalid.violations = append(invalid.violations, &errdetails.BadRequest_FieldViolation{
				Field:       protovalidate.FieldPathString(v.GetField()),
				Description: describe(v),
				Reason:      reasonOf(v.GetRuleId()),
			})
		}
		return invalid
	}
	return err
}

// durationsValid refuses durations whose parts contradict each other: the rules
// of the contract compare them as if they did not, and let them pass.
func durationsValid(request any) error {
	message, ok := request.(proto.Message)
	if !ok {
		return nil
	}
	if field := brokenDuration(message.ProtoReflect()); field != "" {
		return invalidField(field, "is not a valid duration: seconds and nanos must have the same sign, and nanos be less than "+
			"a second")
	}
	return nil
}

// brokenDuration returns the path of the first field that is not a valid
// duration, or nothing.
func brokenDuration(m protoreflect.Message) string {
	path := ""
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() == nil || field.IsList() || field.IsMap() {
			return true
		}
		if d, ok := value.Message().Interface().(*durationpb.Duration); ok {
			if !d.IsValid() {
				path = string(field.Name())
			}
		} else if inner := brokenDuration(value.Message()); inner != "" {
			path = string(field.Name()) + "." + inner
		}
		return path == ""
	})
	return path
}
