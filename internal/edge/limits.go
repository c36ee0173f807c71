package edge

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// A status travels in the trailers twice: as text, percent-encoded, and as
// google.rpc.Status, in base64, whose details and text together must stay under 4
// KiB: clients and proxies drop larger headers, and the code with them.
const (
	// maxStatus is the encoded google.rpc.Status in bytes: 4 KiB in base64, less
	// one group.
	maxStatus = 4096/4*3 - 3
	// maxMessage is the text of a status in bytes.
	maxMessage = 1024
	// anyOverhead is what an Any adds to a detail, without its type URL.
	anyOverhead = 12
)

// newStatus builds a status whose encoding is at most maxStatus bytes. The
// details are kept in the order of their importance; one that does not fit is
// shortened, or left out if that is not enough.
func newStatus(code codes.Code, message string, details ...proto.Message) *status.Status {
	s := &rpcstatus.Status{Code: int32(code), Message: cut(strings.ToValidUTF8(message, "\uFFFD"), maxMessage)}
	slices.SortStableFunc(details, func(a, b proto.Message) int { return cmp.Compare(importance(a), importance(b)) })
	left := maxStatus - proto.Size(s)
	for _, detail := range details {
		url := "type.googleapis.com/" + string(detail.ProtoReflect().Descriptor().FullName())
		small := shortened(detail, left-anyOverhead-len(url))
		if small == nil {
			continue
		}
		content, err := proto.MarshalOptions{Deterministic: true}.Marshal(small)
		if err != nil {
			continue // not valid UTF-8: nothing of it could be read
		}
		before := proto.Size(s)
		s.Details = append(s.Details, &anypb.Any{TypeUrl: url, Value: content})
		left -= proto.Size(s) - before
	}
	return status.FromProto(s)
}

// importance orders the details of a status: what a program acts on is first.
func importance(detail proto.Message) int {
	switch detail.(type) {
	case *errdetails.ErrorInfo:
		return 0
	case *errdetails.RetryInfo:
		return 1
	case *understudyv1.AuthFailure:
		return 2
	case *errdetails.BadRequest:
		return 3
	case *errdetails.QuotaFailure:
		return 4
	case *errdetails.Help:
		return 5
	default:
		return 6
	}
}

// shortened returns a message of at most budget bytes, in which long texts and
// lists are cut as far as it takes, or nil.
func shortened(detail proto.Message, budget int) proto.Message {
	if failure, ok := detail.(*understudyv1.AuthFailure); ok && len(failure.GetAffectedConfigurationTypes()) > 0 {
		// By contract: in a status only their count.
		failure = proto.CloneOf(failure)
		failure.AffectedConfigurationTypes = nil
		detail = failure
	}
	if proto.Size(detail) <= budget {
		return detail
	}
	for _, step := range []struct{ text, elements int }{{512, 32}, {256, 16}, {128, 8}, {64, 4}, {64, 1}} {
		small := proto.Clone(detail)
		shorten(small.ProtoReflect(), step.text, step.elements)
		if proto.Size(small) <= budget {
			return small
		}
	}
	return nil
}

// shorten cuts texts to a number of bytes, and lists and maps to a number of
// elements, in a message and all that is in it. An address that is too long is
// removed: half of one leads nowhere.
func shorten(m protoreflect.Message, text, elements int) {
	m.SetUnknown(nil)
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			shortenMap(value.Map(), field.MapValue(), text, elements)
		case field.IsList():
			list := value.List()
			list.Truncate(min(list.Len(), elements))
			for i := range list.Len() {
				switch {
				case field.Kind() == protoreflect.StringKind:
					list.Set(i, protoreflect.ValueOfString(cut(list.Get(i).String(), text)))
				case field.Message() != nil:
					shorten(list.Get(i).Message(), text, elements)
				}
			}
		case field.Kind() == protoreflect.StringKind && len(value.String()) > text:
			if name := string(field.Name()); name == "url" || strings.HasSuffix(name, "uri") {
				m.Clear(field)
			} else {
				m.Set(field, protoreflect.ValueOfString(cut(value.String(), text)))
			}
		case field.Message() != nil:
			shorten(value.Message(), text, elements)
		}
		return true
	})
}

// shortenMap cuts a map of texts. Of its keys the first in their order stay.
func shortenMap(m protoreflect.Map, valueField protoreflect.FieldDescriptor, text, elements int) {
	var keys []protoreflect.MapKey
	m.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		keys = append(keys, key)
		if valueField.Kind() == protoreflect.StringKind {
			m.Set(key, protoreflect.ValueOfString(cut(value.String(), text)))
		}
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	for _, key := range keys[min(len(keys), elements):] {
		m.Clear(key)
	}
}

// cut shortens a text to at most limit bytes, between characters, and marks that
// it did.
func cut(text string, limit int) string {
	const mark = "…"
	if len(text) <= limit {
		return text
	}
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}
