package edge

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// class says what kind of load a method is.
type class string

const (
	// classProbe is asked by machines all the time: health and reflection. Probes
	// are logged at debug level and answered while the server drains.
	classProbe class = "probe"
	// classRead reads what is stored.
	classRead class = "read"
	// classWrite changes something.
	classWrite class = "write"
	// classWatch is a stream that lives as long as a sync.
	classWatch class = "watch"
)

// method is what the edge knows about a method beside its descriptor.
type method struct {
	class class
	// permission is what a caller needs; `public` for none.
	permission string
	// repeatable says, for a method without an idempotency level in the contract,
	// why it has none, and what makes a repetition safe.
	repeatable string
}

// public is the permission of methods that everybody may call.
const public = "public"

// methods returns the table of all methods that may be served, by full name. A
// method that is not in it keeps the server from starting.
func methods() map[string]method {
	const byRequestID = "starts a sync; a repetition is safe with the same request_id"
	return map[string]method{
		understudyv1.SyncService_RunSync_FullMethodName:                  {classWatch, "syncs.start", byRequestID},
		understudyv1.SyncService_StartSync_FullMethodName:                {classWrite, "syncs.start", byRequestID},
		understudyv1.SyncService_RetrySync_FullMethodName:                {classWrite, "syncs.start", byRequestID},
		understudyv1.SyncService_CancelSync_FullMethodName:               {classWrite, "syncs.cancel", ""},
		understudyv1.SyncService_WatchSync_FullMethodName:                {classWatch, "syncs.get", ""},
		understudyv1.SyncService_GetSync_FullMethodName:                  {classRead, "syncs.get", ""},
		understudyv1.SyncService_ListSyncs_FullMethodName:                {classRead, "syncs.list", ""},
		understudyv1.SyncService_ListConfigurationResults_FullMethodName: {classRead, "syncs.get", ""},
		understudyv1.SyncService_ListItemChanges_FullMethodName:          {classRead, "syncs.get", ""},
		understudyv1.SyncService_ListConfigurationTypes_FullMethodName:   {classRead, "configurationTypes.list", ""},

		healthpb.Health_Check_FullMethodName: {classProbe, public, "gRPC's own contract; reads only"},
		healthpb.Health_List_FullMethodName:  {classProbe, public, "gRPC's own contract; reads only"},
		healthpb.Health_Watch_FullMethodName: {classProbe, public, "gRPC's own contract; reads only"},

		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName: {
			classProbe, public, "gRPC's own contract; reads only",
		},
		reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: {
			classProbe, public, "gRPC's own contract; reads only",
		},
	}
}

// unlisted returns the methods of services that the table does not have.
func unlisted(services map[string]grpc.ServiceInfo, table map[string]method) error {
	var missing []string
	for service, info := range services {
		for _, m := range info.Methods {
			if name := "/" + service + "/" + m.Name; table[name].class == "" || table[name].permission == "" {
				missing = append(missing, name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("methods without a class and a permission: %s", strings.Join(missing, ", "))
}
