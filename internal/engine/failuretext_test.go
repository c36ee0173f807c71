package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TestFailureMessages: what happened and why, what to do, and what became of the
// backup; each once.
func TestFailureMessages(t *testing.T) {
	t.Parallel()
	const (
		denied      = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
		throttled   = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED
		unavailable = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE
		invalid     = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID
		noFeature   = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
	)
	read := func(reason understudyv1.ConfigurationFailureReason, detail string) readFunc {
		return fails(&port.ReadError{Reason: reason, Detail: detail})
	}
	tests := []struct {
		name, configurationType string
		read                    readFunc
		collapse                bool
		want                    string
	}{
		{
			name: "a permission", configurationType: "entra/sp-2", read: read(denied, "the identity lacks something"),
			want: "The service principal may not read this: the permission B.Read.All is missing, or a directory role. " +
				"Grant it with admin consent, then sync again. The previous content is kept.",
		},
		{
			name: "one of several permissions", configurationType: "print/user-2", read: read(denied, "the identity lacks something"),
			want: "The user may not read this: one of the permissions D.Read.All, E.Read.All is missing, or a directory role. " +
				"Grant it with admin consent, then sync again. The previous content is kept.",
		},
		{
			name: "only a user", configurationType: "entra/sp-2", read: fails(&port.ReadError{Reason: denied, NeedsUser: true}),
			want: "Only the user can read this: Microsoft Graph refuses application-only access. " +
				"Let the sync use the user, or leave the configuration type out. The previous content is kept.",
		},
		{
			name: "throttled", configurationType: "entra/sp-2", read: read(throttled, "the tenant asked to wait, at every attempt"),
			want: "The tenant asked to wait, at every attempt. Sync again later. The previous content is kept.",
		},
		{
			name: "a server error", configurationType: "entra/sp-2",
			read: read(unavailable, "Microsoft Graph answered with a server error, at every attempt"),
			want: "Microsoft Graph answered with a server error, at every attempt. Sync again later. The previous content is kept.",
		},
		{
			name: "no usable answer", configurationType: "entra/sp-2", read: read(invalid, "the list is endless: a next page repeats"),
			want: "The list is endless: a next page repeats. Sync again; if it stays so, see the help on this reason. " +
				"The previous content is kept.",
		},
		{
			name: "an item that cannot be stored", configurationType: "entra/sp-2", read: items("unstorable"),
			want: "The item cannot be stored: a duplicate key. Sync again; if it stays so, see the help on this reason. " +
				"The previous content is kept.",
		},
		{
			name: "a feature", configurationType: "entra/sp-2", read: read(noFeature, "the tenant does not have this feature"),
			want: "The tenant does not have this feature, or no licence for it. If it should, check its licences. " +
				"The previous content is kept.",
		},
		{
			name: "what was there", configurationType: "entra/sp-2", read: read(noFeature, "the tenant does not have this feature"), collapse: true,
			want: "The tenant says that this, or a part of it, does not exist here any more, although it was backed up before. " +
				"If it was removed on purpose, sync again with accept_collapse; if not, see the help on this reason. " +
				"The previous content is kept.",
		},
		{
			name: "a collapse", configurationType: "entra/sp-2", read: items(), collapse: true,
			want: "The list is so much shorter than the backup that it is not believed yet. If the items were removed on purpose, " +
				"sync again with accept_collapse, or wait: a later sync that reads the same accepts it. The previous content is kept.",
		},
		{
			name: "no time left", configurationType: "entra/sp-2", read: blocks(),
			want: "The time limit of the sync was reached before this was read. Sync again. The previous content is kept.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.source.reads[tt.configurationType] = tt.read
				s.vault.collapse[tt.configurationType] = tt.collapse
				s.run()
				log := s.start(&understudyv1.SyncSpec{
					ConfigurationTypes: []string{tt.configurationType}, Timeout: durationpb.New(time.Minute),
				})
				s.finished(log)
				var got []string
				for _, event := range log.stored() {
					if result := event.GetConfigurationCompleted().GetResult(); result != nil {
						got = append(got, result.GetError().GetMessage())
					}
				}
				if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
					t.Errorf("messages (-want +got):\n%s", diff)
				}
				s.stop()
				<-s.done
			})
		})
	}
}
