package edge

import (
	"context"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The order is a decision; see chain.go for the reasons.
func TestChainOrder(t *testing.T) {
	f := serve(t, func(c *Config) { c.Observe = func(context.Context, Call) {} })
	links := f.server.chain(&mapper{}, protovalidate.GlobalValidator, methods())
	var both, unaryOnly []string
	for _, l := range links {
		switch {
		case l.unary != nil && l.stream != nil:
			both = append(both, l.name)
		case l.unary != nil:
			unaryOnly = append(unaryOnly, l.name)
		default:
			t.Errorf("%s intercepts nothing", l.name)
		}
	}
	want := []string{
		"request_id", "access_log", "metrics", "errors", "recovery", "draining", "validation", "resource",
	}
	if d := cmp.Diff(want, both); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"timeout"}, unaryOnly); d != "" {
		t.Error(d)
	}
	names := make([]string, 0, len(links))
	for _, l := range links {
		names = append(names, l.name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "draining timeout validation") {
		t.Errorf("order: %s", got)
	}
}

// Every method that is served needs an idempotency level in the contract or a
// reason to have none, a class and a permission.
func TestEveryMethodIsInTheTable(t *testing.T) {
	f := serve(t)
	table := methods()
	served := 0
	for service, info := range f.server.grpc.GetServiceInfo() {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range info.Methods {
			served++
			name := "/" + service + "/" + m.Name
			entry := table[name]
			if entry.class == "" || entry.permission == "" {
				t.Errorf("%s has no class or no permission", name)
			}
			options := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(m.Name)).Options()
			level := options.(*descriptorpb.MethodOptions).GetIdempotencyLevel()
			switch hasLevel := level != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN; {
			case hasLevel && entry.repeatable != "":
				t.Errorf("%s has an idempotency level, and a reason to have none", name)
			case !hasLevel && entry.repeatable == "":
				t.Errorf("%s has no idempotency level, and no reason to have none", name)
			case level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS && entry.class == classWrite:
				t.Errorf("%s has no side effects but is of class %s", name, entry.class)
			}
			if isWatch := m.IsServerStream && entry.class != classProbe; isWatch != (entry.class == classWatch) {
				t.Errorf("%s is of class %s", name, entry.class)
			}
		}
	}
	if served != len(table) {
		t.Errorf("%d methods are served, %d are in the table", served, len(table))
	}
}

func TestAMethodThatIsNotInTheTableIsRefused(t *testing.T) {
	err := unlisted(map[string]grpc.ServiceInfo{
		"understudy.v1.SyncService": {Methods: []grpc.MethodInfo{{Name: "GetSync"}, {Name: "DeleteEverything"}}},
	}, methods())
	if err == nil || !strings.Contains(err.Error(), "/understudy.v1.SyncService/DeleteEverything") ||
		strings.Contains(err.Error(), "GetSync") {
		t.Errorf("err = %v", err)
	}
}
