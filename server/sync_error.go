package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// statusName is the name of a code as the contract spells it: `FAILED_PRECONDITION`.
func statusName(c codes.Code) string { return code.Code(c).String() }

// explain writes the error of a call for people: what happened, the reason, the
// fields that are wrong, and what to do.
func (c *syncCommand) explain(err error) string {
	s, ok := status.FromError(err)
	if !ok {
		return err.Error() // of this program, not of the call
	}
	info := detailOf[*errdetails.ErrorInfo](s)
	var b strings.Builder
	b.WriteString(printable(s.Message()))
	line := func(name, value string) { fmt.Fprintf(&b, "\n  %s: %s", printable(name), printable(value)) }
	if info.GetReason() == "" {
		line("code", statusName(s.Code()))
	} else {
		line("reason", info.GetReason()+" ("+statusName(s.Code())+")")
	}
	for _, key := range slices.Sorted(maps.Keys(info.GetMetadata())) {
		line(key, info.GetMetadata()[key])
	}
	for _, v := range detailOf[*errdetails.BadRequest](s).GetFieldViolations() {
		line(flagOf(v.GetField()), v.GetDescription())
	}
	if delay := retryDelay(err); delay > 0 {
		line("try again", "in "+delay.String())
	}
	for _, advice := range c.advice(s, info) {
		line("what to do", advice)
	}
	return b.String()
}

// advice says what to do about a status.
func (c *syncCommand) advice(s *status.Status, info *errdetails.ErrorInfo) []string {
	var list []string
	switch understudyv1.ErrorReason(understudyv1.ErrorReason_value[info.GetReason()]) {
	case understudyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		if s.Code() == codes.Unavailable {
			list = append(list, "see whether the server runs on "+strings.Join(c.Connection.Address, " or ")+
				" and whether it uses TLS (--tls, --ca-file, and --certificate with --key where it asks for one); `understudy serve` starts one, --address names another")
		}
	case understudyv1.ErrorReason_ERROR_REASON_SYNC_ALREADY_RUNNING:
		sync := info.GetMetadata()["sync"]
		list = append(list, "watch it: "+c.command("--watch", sync), "or cancel it: "+c.command("--cancel", sync))
	}
	for _, link := range detailOf[*errdetails.Help](s).GetLinks() {
		list = append(list, "read "+link.GetUrl())
	}
	if len(list) == 0 && info.GetReason() != "" {
		list = append(list, helpFor(info.GetReason()))
	}
	return list
}

// helpFor is the command that explains a reason.
func helpFor(reason string) string { return "understudy help " + reason }

// flagOf returns the flag that a field of a request comes from: people do not see
// the request.
func flagOf(field string) string {
	name, rest, _ := strings.Cut(strings.TrimPrefix(field, "spec."), "[")
	index, _, indexed := strings.Cut(rest, "]")
	flag, known := map[string]string{
		"parent":                "TENANT",
		"name":                  "the name of the sync",
		"configuration_types":   "--configuration-type",
		"accept_collapse":       "--accept-collapse",
		"authentication_policy": "--policy",
		"allow_prompt":          "--allow-prompt",
		"timeout":               "--timeout",
		"comment":               "--comment",
		"dry_run":               "--dry-run",
	}[name]
	switch {
	case !known:
		return field
	case indexed:
		if i, err := strconv.Atoi(index); err == nil {
			return fmt.Sprintf("%s, value %d", flag, i+1)
		}
	}
	return flag
}

// printable returns a text that cannot do anything to a terminal: what the server
// says of a tenant was written by others.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return '\uFFFD'
		}
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
