package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

const (
	byUser             = understudyv1.Identity_IDENTITY_USER
	byServicePrincipal = understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
)

// documents reads items, each id with the text that follows it.
func documents(texts ...string) readFunc {
	return func(_ context.Context, _ port.Identity, sink func(port.Item) error) error {
		for i := 0; i < len(texts); i += 2 {
			if err := sink(port.Item{ID: texts[i], JSON: []byte(texts[i+1])}); err != nil {
				return err
			}
		}
		return nil
	}
}

// many reads that many items.
func many(n int) readFunc { return items(numbers(n)...) }

func numbers(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	return ids
}

// TestProbe: how the service principal's answer compares with the user's is what is
// known afterwards. Nothing else tells that there was a probe: the sync is the same
// as that of a tenant that learns nothing.
func TestProbe(t *testing.T) {
	t.Parallel()
	refused := func(reason understudyv1.ConfigurationFailureReason, needsUser bool) readFunc {
		return fails(&port.ReadError{Reason: reason, NeedsUser: needsUser})
	}
	lost := fails((&fakeIdentity{identity: byServicePrincipal}).Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED))
	both := items("a", "b")
	tests := []struct {
		name                   string
		user, servicePrincipal readFunc
		setUp                  func(*probeStage)
		spec                   *understudyv1.SyncSpec
		// asked says whether there is a probe, answer what is known afterwards.
		asked  bool
		answer port.ProbeAnswer
	}{
		{name: "equal", user: both, servicePrincipal: both, asked: true, answer: port.ProbeEqual},
		{name: "equal in another order", user: both, servicePrincipal: items("b", "a"), asked: true, answer: port.ProbeEqual},
		{name: "as many as it may have", user: many(200), servicePrincipal: many(200), asked: true, answer: port.ProbeEqual},
		{
			name: "as many as it may have, and one twice", user: items(append(numbers(200), "7")...), servicePrincipal: many(200),
			asked: true, answer: port.ProbeEqual,
		},
		{name: "other content", user: documents("a", "1"), servicePrincipal: documents("a", "2"), asked: true, answer: port.ProbeDifferent},
		{name: "an item less", user: both, servicePrincipal: items("a"), asked: true, answer: port.ProbeDifferent},
		{name: "an item more", user: both, servicePrincipal: items("a", "b", "c"), asked: true, answer: port.ProbeDifferent},
		{name: "an item twice", user: both, servicePrincipal: items("a", "a", "b"), asked: true, answer: port.ProbeEqual},
		{name: "an item twice, and one missing", user: both, servicePrincipal: items("a", "a"), asked: true, answer: port.ProbeDifferent},
		{name: "an item twice, once with other content", user: documents("a", "1"), servicePrincipal: documents("a", "1", "a", "2"), asked: true, answer: port.ProbeDifferent},
		{name: "the user has an item twice", user: items("a", "b", "a"), servicePrincipal: both, asked: true, answer: port.ProbeEqual},
		{name: "an empty list", user: both, servicePrincipal: items(), asked: true, answer: port.ProbeDifferent},
		{name: "not available", user: both, servicePrincipal: refused(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE, false), asked: true, answer: port.ProbeDifferent},
		{name: "a permission is missing", user: both, servicePrincipal: refused(permissionMissing, false), asked: true, answer: port.ProbeRefused},
		{name: "only a user is let in", user: both, servicePrincipal: refused(permissionMissing, true), asked: true, answer: port.ProbeRefused},
		{name: "throttled", user: both, servicePrincipal: refused(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED, false), asked: true},
		{name: "a server error", user: both, servicePrincipal: refused(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE, false), asked: true},
		{name: "equal, but not read to the end", user: both, servicePrincipal: fails(readError(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID), "a", "b"), asked: true},
		{name: "its access is lost", user: both, servicePrincipal: lost, asked: true},
		{name: "another error", user: both, servicePrincipal: fails(errors.New("what is this")), asked: true},
		{
			name: "a bug", user: both, asked: true,
			servicePrincipal: func(context.Context, port.Identity, func(port.Item) error) error { panic("a bug") },
		},
		{name: "no answer in time", user: both, servicePrincipal: blocks("a", "b"), asked: true},
		{name: "too many requests", user: both, servicePrincipal: both, setUp: func(s *probeStage) { s.requests = 101 }, asked: true},
		{name: "too many items", user: many(201), servicePrincipal: many(201)},
		{name: "nothing to compare", user: items(), servicePrincipal: items()},
		{name: "the user's reading is not complete", user: fails(readError(permissionMissing), "a", "b"), servicePrincipal: both},
		{name: "an item of the user's cannot be stored", user: items("a", "unstorable"), servicePrincipal: both},
		{name: "the user's reading collapsed", user: both, servicePrincipal: both, setUp: func(s *probeStage) { s.vault.collapse["print/user-1"] = true }},
		{
			name: "the user fails", user: both, servicePrincipal: both,
			setUp: func(s *probeStage) {
				s.user.refuse(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED)
			},
		},
		{
			name: "the service principal is not used", user: both, servicePrincipal: both,
			spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"print/user-1"}},
		},
		{
			name: "the policy is SERVICE_PRINCIPAL_ONLY", user: both, servicePrincipal: both,
			spec: &understudyv1.SyncSpec{AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY},
		},
		{name: "a dry run", user: both, servicePrincipal: both, spec: &understudyv1.SyncSpec{DryRun: true}},
		{name: "the tenant learns nothing", user: both, servicePrincipal: both, setUp: func(s *probeStage) { s.tenant.Knowledge = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tell := func(learns bool) (*probeStage, []string) {
					s := newProbeStage(t)
					s.reads(tt.user, tt.servicePrincipal)
					if tt.setUp != nil {
						tt.setUp(s)
					}
					if !learns {
						s.tenant.Knowledge = nil
					}
					s.user.signIn = after(time.Second, s.user.signIn) // one order of events
					s.run()
					log := s.sync(tt.spec)
					s.ended()
					return s, summary(log.stored())
				}
				s, story := tell(true)
				_, want := tell(false)
				if diff := cmp.Diff(want, story); diff != "" {
					t.Errorf("the probe shows (-without +with):\n%s", diff)
				}
				answers := map[string]port.ProbeAnswer{}
				if tt.answer != "" {
					answers["print/user-1"] = tt.answer
				}
				if diff := cmp.Diff(answers, s.knowledge.answers()); diff != "" {
					t.Errorf("known (-want +got):\n%s", diff)
				}
				if got := s.asked > 0; got != tt.asked || s.asked > 1 {
					t.Errorf("the service principal was asked %d times, want a probe: %t", s.asked, tt.asked)
				}
			})
		})
	}
}

// TestProbeIsNotTheBackup: what a probe reads never comes to the vault.
func TestProbeIsNotTheBackup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.reads(items("a"), items("a", "b", "c"))
		s.run()
		s.sync(nil)
		if diff := cmp.Diff([]string{"a"}, s.vault.backup["print/user-1"]); diff != "" || s.asked != 1 {
			t.Errorf("asked %d times; the backup (-want +got):\n%s", s.asked, diff)
		}
		s.ended()
	})
}

// TestLearned: from the next sync on the service principal reads, without the user,
// and is not probed again.
func TestLearned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.tenant.ConfigurationTypes = []string{"entra/sp-1", "print/user-1"}
		s.reads(items("a"), items("a"))
		s.run()
		if who, learned := readBy(s.sync(nil)); who != byUser || learned {
			t.Errorf("first read by %s, learned: %t", who, learned)
		}
		second := s.sync(nil)
		if who, learned := readBy(second); who != byServicePrincipal || !learned {
			t.Errorf("then read by %s, learned: %t", who, learned)
		}
		if got := s.vault.readings["print/user-1"].Identity; got != byServicePrincipal {
			t.Errorf("the coverage hears of %s", got)
		}
		if got := second.Sync().GetIdentities()[1].GetState(); got != understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED || s.user.signIns != 1 {
			t.Errorf("the user is %s after %d sign-ins, want NOT_NEEDED after 1", got, s.user.signIns)
		}
		if s.asked != 2 {
			t.Errorf("the service principal read %d times, want 2: probe and sync", s.asked)
		}
		s.ended()
	})
}

// TestProbeAgain: another answer than EQUAL is asked for again a day later.
func TestProbeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.reads(items("a"), fails(readError(permissionMissing)))
		s.run()
		s.sync(nil)
		<-time.After(24*time.Hour - time.Minute)
		s.sync(nil)
		if s.asked != 1 {
			t.Errorf("asked %d times within a day, want 1", s.asked)
		}
		<-time.After(2 * time.Minute)
		s.reads(items("a"), items("a"))
		s.sync(nil)
		if got := s.knowledge.answers()["print/user-1"]; s.asked != 2 || got != port.ProbeEqual {
			t.Errorf("asked %d times, known: %s", s.asked, got)
		}
		// A clock that was set back makes no lesson last for years.
		s.knowledge.lessons["print/user-1"] = port.Lesson{
			Answer: port.ProbeRefused, Readers: readers, Time: time.Now().Add(time.Hour),
		}
		s.sync(nil)
		if s.asked != 3 {
			t.Errorf("asked %d times with a lesson of the future, want 3", s.asked)
		}
		s.ended()
	})
}

// TestLessonsOfOthers: a lesson holds for the version of the catalog, the filter and
// the identities that it was learned with, for a type that is still probed, and for
// EQUAL only.
func TestLessonsOfOthers(t *testing.T) {
	t.Parallel()
	for name, lesson := range map[string]struct {
		id string
		port.Lesson
	}{
		"another filter":        {"print/user-1", port.Lesson{Answer: port.ProbeEqual, Readers: readers, Filter: "id eq '1'"}},
		"different":             {"print/user-1", port.Lesson{Answer: port.ProbeDifferent, Readers: readers}},
		"refused":               {"print/user-1", port.Lesson{Answer: port.ProbeRefused, Readers: readers}},
		"a type without probes": {"print/user-2", port.Lesson{Answer: port.ProbeEqual, Readers: readers}},
		"another application":   {"print/user-1", port.Lesson{Answer: port.ProbeEqual, Readers: port.Readers{ServicePrincipal: "another", User: readers.User}}},
		"another user":          {"print/user-1", port.Lesson{Answer: port.ProbeEqual, Readers: port.Readers{ServicePrincipal: readers.ServicePrincipal, User: "another"}}},
		"nobody's":              {"print/user-1", port.Lesson{Answer: port.ProbeEqual}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newProbeStage(t)
				s.knowledge.lessons[lesson.id] = lesson.Lesson
				s.run()
				for id, result := range results(s.sync(nil)) {
					if want := map[bool]understudyv1.Identity{true: byServicePrincipal, false: byUser}[id == "entra/sp-1"]; result.GetIdentity() != want {
						t.Errorf("%s was read by %s", id, result.GetIdentity())
					}
				}
				s.ended()
			})
		})
	}
}

// TestForgotten: where the service principal may not read any more what it had
// learned to, the user does.
func TestForgotten(t *testing.T) {
	t.Parallel()
	denied := fails(readError(permissionMissing))
	blocked := understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED
	only := understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY
	require := understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER
	tests := []struct {
		name   string
		read   readFunc
		policy understudyv1.AuthenticationPolicy
		setUp  func(*probeStage)
		want   []string
		answer port.ProbeAnswer
	}{
		{
			name: "the user reads in the same sync", read: denied, answer: port.ProbeRefused,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "authenticated USER", "committed", "finished SUCCEEDED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 CHANGED UNSPECIFIED by USER",
			},
		},
		{
			name: "application-only access is refused", answer: port.ProbeRefused,
			read: fails(&port.ReadError{Reason: permissionMissing, NeedsUser: true}),
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "authenticated USER", "committed", "finished SUCCEEDED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 CHANGED UNSPECIFIED by USER",
			},
		},
		{
			name: "the user fails", read: denied, answer: port.ProbeRefused,
			setUp: func(s *probeStage) { s.user.refuse(blocked) },
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
		},
		{
			name: "the user fails and is required", read: denied, answer: port.ProbeRefused, policy: require,
			setUp: func(s *probeStage) {
				s.user.refuse(blocked)
				s.user.signIn = after(time.Second, s.user.signIn)
			},
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL",
				"failed USER CONDITIONAL_ACCESS_BLOCKED, affects [print/user-1], continues with UNSPECIFIED",
				"finished FAILED FAILED_PRECONDITION", "entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "something was staged", read: fails(readError(permissionMissing), "a"), answer: port.ProbeRefused,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 INCOMPLETE PERMISSION_MISSING by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "the user is not used", read: denied, answer: port.ProbeRefused, policy: only,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 FAILED PERMISSION_MISSING by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "its list collapsed", read: items(), answer: port.ProbeDifferent,
			setUp: func(s *probeStage) { s.vault.collapse["print/user-1"] = true },
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 INCOMPLETE COUNT_COLLAPSED by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "it does not exist for it", read: fails(readError(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE)),
			answer: port.ProbeDifferent,
			setUp:  func(s *probeStage) { s.vault.collapse["print/user-1"] = true },
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 INCOMPLETE FEATURE_NOT_AVAILABLE by SERVICE_PRINCIPAL",
			},
		},
		{
			name: "a fault that says nothing of it", read: fails(readError(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED)),
			answer: port.ProbeEqual,
			want: []string{
				"started 2", "authenticated SERVICE_PRINCIPAL", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 UNCHANGED UNSPECIFIED by SERVICE_PRINCIPAL", "print/user-1 FAILED THROTTLED by SERVICE_PRINCIPAL",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newProbeStage(t)
				s.tenant.ConfigurationTypes = []string{"entra/sp-1", "print/user-1"}
				s.vault.backup["entra/sp-1"] = []string{"a", "b"}
				s.learned()
				s.reads(items("a"), tt.read)
				if tt.setUp != nil {
					tt.setUp(s)
				}
				s.run()
				log := s.sync(&understudyv1.SyncSpec{AuthenticationPolicy: tt.policy})
				if diff := cmp.Diff(tt.want, summary(log.stored())); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if got := s.knowledge.answers()["print/user-1"]; got != tt.answer {
					t.Errorf("known: %s, want %s", got, tt.answer)
				}
				s.ended()
			})
		})
	}
}

// TestForgottenNamesPermission: the error names what the probe was made with, and
// the user reads the type in the next sync.
func TestForgottenNamesPermission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.learned()
		s.reads(items("a"), fails(readError(permissionMissing), "a"))
		s.run()
		var failure understudyv1.AuthFailure
		for _, detail := range results(s.sync(nil))["print/user-1"].GetError().GetDetails() {
			_ = detail.UnmarshalTo(&failure)
		}
		if diff := cmp.Diff([]string{"C.Read.All"}, failure.GetMissingPermissions()); diff != "" {
			t.Error(diff)
		}
		if who, learned := readBy(s.sync(nil)); who != byUser || learned {
			t.Errorf("the next sync read by %s, learned: %t", who, learned)
		}
		s.ended()
	})
}

// TestAnotherApplication: an application that took the place of the one that a lesson
// is of may see less. It is asked anew, and the list of the user is the backup.
func TestAnotherApplication(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*port.Readers){
		"another application": func(r *port.Readers) { r.ServicePrincipal = "another" },
		"another user":        func(r *port.Readers) { r.User = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newProbeStage(t)
				s.reads(items("a", "b"), items("a", "b"))
				s.run()
				s.sync(nil)
				change(&s.tenant.Readers)
				s.reads(items("a", "b"), items("a"))
				if who, learned := readBy(s.sync(nil)); who != byUser || learned {
					t.Errorf("read by %s, learned: %t", who, learned)
				}
				if diff := cmp.Diff([]string{"a", "b"}, s.vault.backup["print/user-1"]); diff != "" {
					t.Errorf("the backup (-want +got):\n%s", diff)
				}
				if got := s.knowledge.lessons["print/user-1"]; got.Answer != port.ProbeDifferent || got.Readers != s.tenant.Readers {
					t.Errorf("known: %v", got)
				}
				s.ended()
			})
		})
	}
}

// TestOnlyServicePrincipalUsesLessons: a sync without the user has what the service
// principal learned to read.
func TestOnlyServicePrincipalUsesLessons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.tenant.User, s.tenant.Readers.User = nil, ""
		s.run()
		spec := &understudyv1.SyncSpec{ConfigurationTypes: []string{"print/user-1"}}
		_, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName, Spec: spec})
		if specError := (*engine.SpecError)(nil); !errors.As(err, &specError) {
			t.Errorf("before it learned: %v, want a SpecError", err)
		}
		s.learned()
		if who, learned := readBy(s.sync(spec)); who != byServicePrincipal || !learned {
			t.Errorf("read by %s, learned: %t", who, learned)
		}
		s.ended()
	})
}

// TestLearningFails: that what was learned cannot be stored is no failure of the
// sync.
func TestLearningFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.knowledge.err = errStorage
		s.run()
		log := s.sync(nil)
		if got := log.Sync().GetState(); got != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
			t.Errorf("the sync is %s", got)
		}
		s.ended()
	})
}

// TestProbeEndsWithTheSync: a probe that hangs neither outlives the time limit nor
// keeps a cancelled sync.
func TestProbeEndsWithTheSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newProbeStage(t)
		s.reads(items("a"), blocks())
		s.run()
		began := time.Now()
		log := s.sync(&understudyv1.SyncSpec{Timeout: durationpb.New(10 * time.Second)})
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("the sync took %s", took)
		}
		if got := summary(log.stored()); !slices.Contains(got, "finished SUCCEEDED") {
			t.Errorf("the time limit of a probe is one of the sync: %v", got)
		}
		log = s.start(nil)
		synctest.Wait() // it probes
		began = time.Now()
		if _, err := s.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
			t.Fatal(err)
		}
		if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED || time.Since(began) > time.Second {
			t.Errorf("the cancelled sync is %s after %s", final.GetState(), time.Since(began))
		}
		s.ended()
	})
}
