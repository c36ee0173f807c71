package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// end writes the report: how the sync ended and why, what was not backed up
// completely and why, what was, and the commit.
func (v *textView) end(sync *understudyv1.Sync) error {
	v.clear()
	r := &syncReport{view: v, sync: sync}
	r.state()
	r.identities()
	r.left()
	r.others()
	r.filtered()
	r.dominant()
	r.backup()
	r.next()
	_, err := io.WriteString(v.out, r.b.String())
	return err
}

// cancelled says that a sync is cancelled, or will be.
func (v *textView) cancelled(sync *understudyv1.Sync) error {
	_, err := fmt.Fprintf(v.out, "%s: %s\n", printable(sync.GetName()), stateName(sync.GetState()))
	return err
}

// syncReport is the report about one sync that is over.
type syncReport struct {
	view *textView
	sync *understudyv1.Sync
	b    strings.Builder
}

// partialCauses says in words why a sync succeeded only partially.
var partialCauses = map[understudyv1.PartialCause]string{
	understudyv1.PartialCause_PARTIAL_CAUSE_USER_AUTHENTICATION_FAILED: "the user could not authenticate",
	understudyv1.PartialCause_PARTIAL_CAUSE_CONFIGURATIONS_FAILED:      "some configurations could not be read completely",
	understudyv1.PartialCause_PARTIAL_CAUSE_SERVICE_PRINCIPAL_LOST:     "the service principal lost its access",
	understudyv1.PartialCause_PARTIAL_CAUSE_TIMED_OUT:                  "the time limit was reached",
	understudyv1.PartialCause_PARTIAL_CAUSE_PUSH_FAILED:                "the remote did not take the commit",
}

// state says how the sync ended.
func (r *syncReport) state() {
	fmt.Fprintf(&r.b, "%s: %s", printable(r.sync.GetName()), stateName(r.sync.GetState()))
	if start, end := r.sync.GetCreateTime(), r.sync.GetEndTime(); start != nil && end != nil {
		fmt.Fprintf(&r.b, " after %s", end.AsTime().Sub(start.AsTime()).Round(100*time.Millisecond))
	}
	r.b.WriteString("\n")
	for _, cause := range r.sync.GetPartialCauses() {
		text, ok := partialCauses[cause]
		if !ok {
			text = cause.String() // of a newer server
		}
		fmt.Fprintf(&r.b, "  - %s\n", text)
	}
	if e := r.sync.GetError(); e != nil {
		fmt.Fprintf(&r.b, "  %s\n", printable(e.GetMessage()))
		if r.failureOf(e) == nil {
			if reason := reasonOfStatus(e); reason != "" {
				fmt.Fprintf(&r.b, "  Help: %s\n", helpFor(reason))
			}
		}
	}
}

// identities says why identities failed.
func (r *syncReport) identities() {
	for _, identity := range r.sync.GetIdentities() {
		failure := identity.GetFailure()
		if failure == nil {
			continue
		}
		fmt.Fprintf(&r.b, "\n%s %s: %s%s\n", title(identityName(identity.GetIdentity())),
			words(identity.GetState().String(), "IDENTITY_STATE_"), authReason(failure), providerCode(failure))
		if r.sync.GetError().GetMessage() != failure.GetMessage() {
			fmt.Fprintf(&r.b, "  %s\n", printable(failure.GetMessage()))
		}
		if actor, ok := remedyActors[failure.GetRemedyActor()]; ok {
			fmt.Fprintf(&r.b, "  Who can mend it: %s\n", actor)
		}
		if missing := failure.GetMissingPermissions(); len(missing) > 0 {
			fmt.Fprintf(&r.b, "  Missing permissions: %s\n", printable(strings.Join(missing, ", ")))
		}
		if id := failure.GetCorrelationId(); id != "" {
			fmt.Fprintf(&r.b, "  Correlation id: %s\n", printable(id))
		}
		fmt.Fprintf(&r.b, "  Help: %s\n", helpOfFailure(failure))
	}
}

// remedyActors says in words who can put a failure right.
var remedyActors = map[understudyv1.RemedyActor]string{
	understudyv1.RemedyActor_REMEDY_ACTOR_USER:                 "the user, by signing in again",
	understudyv1.RemedyActor_REMEDY_ACTOR_TENANT_ADMINISTRATOR: "an administrator of the tenant",
	understudyv1.RemedyActor_REMEDY_ACTOR_OPERATOR:             "whoever operates this service",
	understudyv1.RemedyActor_REMEDY_ACTOR_NOBODY:               "nobody: wait",
}

// left lists what was not backed up completely, always, and why.
func (r *syncReport) left() {
	var rows strings.Builder
	var reasons []string // in the order they came
	counts := map[string]int{}
	left := 0
	missing := map[string]bool{}
	denied := 0
	for _, result := range slices.SortedFunc(slices.Values(r.view.results), byType) {
		if !isLeft(result.GetOutcome()) {
			continue
		}
		left++
		fmt.Fprintf(&rows, "  %s\t%s\t%s\t%s%s\n", printable(result.GetConfigurationType()), outcomeName(result.GetOutcome()),
			strings.TrimPrefix(result.GetReason().String(), "CONFIGURATION_FAILURE_REASON_"), r.lastComplete(result), refusal(result))
		if r.isIdentityFailure(result) {
			continue // said above, once for all
		}
		if permissions := r.failureOf(result.GetError()).GetMissingPermissions(); result.GetReason() == permissionMissing && len(permissions) > 0 {
			denied++
			for _, permission := range permissions {
				missing[permission] = true
			}
			continue // said below, once for all
		}
		why := printable(result.GetError().GetMessage()) + " Help: " + helpFor(result.GetReason().String())
		if counts[why]++; counts[why] == 1 {
			reasons = append(reasons, why)
		}
	}
	if left == 0 {
		return
	}
	fmt.Fprintf(&r.b, "\nNot backed up completely (%d); the previous content is kept:\n", left)
	r.columns("  CONFIGURATION TYPE\tOUTCOME\tREASON\tLAST COMPLETE\n" + rows.String())
	for i, why := range reasons {
		if i == 0 {
			r.b.WriteString("\n")
		}
		fmt.Fprintf(&r.b, "  %d x %s\n", counts[why], why)
	}
	if denied > 0 {
		fmt.Fprintf(&r.b, "\n  %d x Permissions are missing, or a directory role: some or all of %s. Grant them with admin consent, and sync again."+
			" `understudy catalog --permissions` lists what each needs. Help: %s\n", denied,
			printable(strings.Join(slices.Sorted(maps.Keys(missing)), ", ")), helpFor(permissionMissing.String()))
	}
}

const permissionMissing = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING

func byType(a, b *understudyv1.ConfigurationResult) int {
	return strings.Compare(a.GetConfigurationType(), b.GetConfigurationType())
}

// refusal is the request that was refused, as a last column, or nothing.
func refusal(result *understudyv1.ConfigurationResult) string {
	metadata := metadataOf(result.GetError())
	if metadata["httpStatus"] == "" {
		return ""
	}
	text := fmt.Sprintf("HTTP %s: %s", metadata["httpStatus"], metadata["operation"])
	if id := metadata["requestId"]; id != "" {
		text += ", request id " + id
	}
	return "\t" + printable(text)
}

// isIdentityFailure says whether a result has the failure of an identity as its
// reason, which the report tells already.
func (r *syncReport) isIdentityFailure(result *understudyv1.ConfigurationResult) bool {
	failure := r.failureOf(result.GetError())
	for _, identity := range r.sync.GetIdentities() {
		if failure != nil && identity.GetFailure().GetMessage() == result.GetError().GetMessage() {
			return true
		}
	}
	return false
}

// others counts what was backed up, and lists it when asked to.
func (r *syncReport) others() {
	counts := map[understudyv1.ConfigurationOutcome]int{}
	var rows strings.Builder
	for _, result := range r.view.results {
		counts[result.GetOutcome()]++
		if isLeft(result.GetOutcome()) {
			continue
		}
		fmt.Fprintf(&rows, "  %s\t%s\t%s\t+%d ~%d -%d\t%s\t%s\n", printable(result.GetConfigurationType()),
			outcomeName(result.GetOutcome()), counted(int(result.GetItemCount()), "item"),
			result.GetAddedCount(), result.GetModifiedCount(), result.GetRemovedCount(), readModes[result.GetReadMode()],
			result.GetDuration().AsDuration().Round(time.Millisecond))
	}
	if r.sync.GetSnapshot() == nil && !r.sync.GetSpec().GetDryRun() {
		r.uncommitted()
		return
	}
	changed := counts[understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED]
	unchanged := counts[understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED]
	fmt.Fprintf(&r.b, "\nBacked up: %s (%d changed, %d unchanged).",
		counted(changed+unchanged, "configuration type"), changed, unchanged)
	if n := counts[understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE]; n > 0 {
		fmt.Fprintf(&r.b, " Not available in the tenant: %d.", n)
	}
	r.b.WriteString("\n")
	if r.view.verbose && rows.Len() > 0 {
		r.columns("  CONFIGURATION TYPE\tOUTCOME\tITEMS\tCHANGES\tREAD\tTOOK\n" + rows.String())
	}
}

// uncommitted counts what was read for nothing, and what was not read at all.
func (r *syncReport) uncommitted() {
	read := len(r.view.results)
	fmt.Fprintf(&r.b, "\nRead, but not committed: %s.", counted(read, "configuration type"))
	if rest := int(r.sync.GetCounts().GetTotal()) - read; rest > 0 {
		fmt.Fprintf(&r.b, " Not read: %d.", rest)
	}
	r.b.WriteString("\n")
}

// backup says where the backup is.
func (r *syncReport) backup() {
	snapshot := r.sync.GetSnapshot()
	switch {
	case snapshot != nil:
	case r.sync.GetSpec().GetDryRun() && syncExitCode(r.sync.GetState()) != exitFailed:
		r.b.WriteString("A dry run: nothing was committed.\n")
		return
	default:
		r.b.WriteString("Nothing was committed; the previous backup is unchanged.\n")
		return
	}
	made := "new"
	if !snapshot.GetCreated() {
		made = "an earlier one: nothing changed since"
	}
	fmt.Fprintf(&r.b, "Commit %s on %s (%s).", printable(snapshot.GetCommit()), printable(snapshot.GetRef()), made)
	switch snapshot.GetPushState() {
	case understudyv1.PushState_PUSH_STATE_PUSHED:
		r.b.WriteString(" Pushed to the remote.")
	case understudyv1.PushState_PUSH_STATE_FAILED:
		fmt.Fprintf(&r.b, " Not pushed: %s", printable(snapshot.GetPushError().GetMessage()))
	}
	r.b.WriteString("\n")
}

// next says how to make the backup whole.
func (r *syncReport) next() {
	if r.sync.GetSnapshot() == nil && !r.sync.GetSpec().GetDryRun() {
		fmt.Fprintf(&r.b, "Retry: %s\n", r.view.command("--retry", r.sync.GetName()))
		return
	}
	if slices.ContainsFunc(r.view.results, func(result *understudyv1.ConfigurationResult) bool { return isLeft(result.GetOutcome()) }) {
		fmt.Fprintf(&r.b, "Retry only what is missing: %s\n", r.view.command("--retry", r.sync.GetName()))
	}
	if gone := r.doubted(); gone != "" {
		tenant, _, _ := strings.Cut(strings.TrimPrefix(r.sync.GetName(), "tenants/"), "/")
		fmt.Fprintf(&r.b, "If it was removed on purpose, confirm it: %s\n",
			r.view.command("-t "+gone+" --accept-collapse", gone+" "+tenant))
	}
}

// doubted returns the types that the tenant says to have less of, or not at all, which
// is not believed until somebody confirms it.
func (r *syncReport) doubted() string {
	var ids []string
	for _, result := range r.view.results {
		reason := result.GetReason()
		if result.GetOutcome() == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE &&
			(reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED ||
				reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE) {
			ids = append(ids, printable(result.GetConfigurationType()))
		}
	}
	return strings.Join(ids, ",")
}

// columns writes rows as a table.
func (r *syncReport) columns(rows string) {
	// A strings.Builder takes everything.
	_ = writeColumns(&r.b, rows)
}

// lastComplete is when a type was last backed up completely.
func (r *syncReport) lastComplete(result *understudyv1.ConfigurationResult) string {
	if result.GetLastCompleteTime() == nil {
		return "never"
	}
	return result.GetLastCompleteTime().AsTime().In(r.view.location).Format("2006-01-02 15:04")
}

// failureOf returns the AuthFailure in a status, or nil.
func (r *syncReport) failureOf(s *rpcstatus.Status) *understudyv1.AuthFailure {
	return detailOf[*understudyv1.AuthFailure](status.FromProto(s))
}

// metadataOf returns the metadata of the ErrorInfo in a status.
func metadataOf(s *rpcstatus.Status) map[string]string {
	return detailOf[*errdetails.ErrorInfo](status.FromProto(s)).GetMetadata()
}

// reasonOfStatus returns the ErrorReason in a status.
func reasonOfStatus(s *rpcstatus.Status) string {
	return detailOf[*errdetails.ErrorInfo](status.FromProto(s)).GetReason()
}

// readModes says in words how a type was read.
var readModes = map[understudyv1.ReadMode]string{
	understudyv1.ReadMode_READ_MODE_UNSPECIFIED: "-",
	understudyv1.ReadMode_READ_MODE_FULL:        "in full",
	understudyv1.ReadMode_READ_MODE_DELTA:       "by delta",
}

// isLeft says whether an outcome leaves a type to be retried.
func isLeft(outcome understudyv1.ConfigurationOutcome) bool {
	switch outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
		return false
	default:
		return true
	}
}

// helpOfFailure is where the guidance for a failure is.
func helpOfFailure(failure *understudyv1.AuthFailure) string {
	if uri := failure.GetHelpUri(); uri != "" {
		return printable(uri)
	}
	return helpFor(authReason(failure))
}

// authReason is the short name of a reason.
func authReason(failure *understudyv1.AuthFailure) string {
	return strings.TrimPrefix(failure.GetReason().String(), "AUTH_FAILURE_REASON_")
}

// providerCode is the provider's code in brackets, if there is one.
func providerCode(failure *understudyv1.AuthFailure) string {
	if failure.GetProviderErrorCode() == "" {
		return ""
	}
	return " (" + printable(failure.GetProviderErrorCode()) + ")"
}

func stateName(state understudyv1.SyncState) string {
	return strings.TrimPrefix(state.String(), "SYNC_STATE_")
}

func outcomeName(outcome understudyv1.ConfigurationOutcome) string {
	return strings.TrimPrefix(outcome.String(), "CONFIGURATION_OUTCOME_")
}

func identityName(identity understudyv1.Identity) string {
	return "the " + words(identity.String(), "IDENTITY_")
}

// words turns the name of a value into words.
func words(value, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(value, prefix)), "_", " ")
}

// title begins a text with a capital letter.
func title(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
