package help

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"understudy.internal/internal/alike"
)

// Group is a kind of topic.
type Group int

// The groups, in the order in which a short name is looked for.
const (
	// Authentication: the values of AuthFailureReason.
	Authentication Group = iota
	// Error: the values of ErrorReason.
	Error
	// Configuration: the values of ConfigurationFailureReason.
	Configuration
	// State: the values of SyncState.
	State
	// Cause: the values of PartialCause.
	Cause
	// Outcome: the values of ConfigurationOutcome.
	Outcome
)

// prefixes are how the values of each group begin on the wire, in the spelling of
// topics.
var prefixes = [...]string{
	Authentication: "auth-failure-reason-",
	Error:          "error-reason-",
	Configuration:  "configuration-failure-reason-",
	State:          "sync-state-",
	Cause:          "partial-cause-",
	Outcome:        "configuration-outcome-",
}

// Topic is a value of an enumeration that has help.
type Topic struct {
	Group Group
	// Name is the shortest name to ask for: `conditional-access-blocked`.
	Name string
	// Text is the page or the section.
	Text string

	// full is the name with the prefix of the group.
	full string
}

// UnknownTopicError says that there is no help of a name.
type UnknownTopicError struct {
	// Topic is the name.
	Topic string
	// Suggestions are up to three names that are alike, the most alike first.
	Suggestions []string
}

// Error implements error.
func (e *UnknownTopicError) Error() string {
	text := fmt.Sprintf("there is no help on %q", e.Topic)
	if len(e.Suggestions) > 0 {
		text += "; did you mean " + strings.Join(e.Suggestions, " or ") + "?"
	}
	return text
}

// UnknownCodeError says that no page knows an AADSTS code.
type UnknownCodeError struct {
	// Code is the number alone.
	Code string
}

// Error implements error.
func (e *UnknownCodeError) Error() string {
	return "AADSTS" + e.Code + " is on no page. The reason of the AuthFailure is still right, because it does not depend on codes; " +
		"Microsoft explains the code on https://login.microsoftonline.com/error?code=" + e.Code
}

// Topics returns every topic, by group, in the order of the pages.
func Topics() []Topic { return topics() }

var topics = sync.OnceValue(func() []Topic {
	var all []Topic
	for _, name := range Names() {
		if name != Errors && name != Configurations && name != States {
			text, _ := Page(name)
			all = append(all, Topic{Group: Authentication, Name: name, Text: text, full: prefixes[Authentication] + name})
		}
	}
	all = append(all, sections(Errors, Error)...)
	all = append(all, sections(Configurations, Configuration)...)
	all = append(all, sections(States, State)...)
	all = append(all, sections(States, Cause)...)
	all = append(all, sections(States, Outcome)...)
	taken := make(map[string]bool)
	for i, topic := range all {
		if taken[topic.Name] {
			all[i].Name = topic.full // THROTTLED is in two enumerations
		}
		taken[topic.Name] = true
	}
	return all
})

// sections returns the sections of a page that are values of a group.
func sections(page string, group Group) []Topic {
	var found []Topic
	text, _ := Page(page)
	for line := range strings.Lines(text) {
		heading, ok := strings.CutPrefix(strings.TrimSpace(line), "## ")
		full := canonical(heading)
		name, value := strings.CutPrefix(full, prefixes[group])
		if !ok || !value {
			continue
		}
		section, _ := Section(page, heading)
		found = append(found, Topic{Group: group, Name: name, Text: section, full: full})
	}
	return found
}

// canonical is the spelling of topics: `AUTH_FAILURE_REASON_X`, `x` and an address
// that ends with `/x` or `/x.md` are read.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimSuffix(path.Base(name), ".md")
	return strings.ReplaceAll(name, "_", "-")
}

// Find returns the help on a value of an enumeration (with or without its prefix,
// in any case), on an AADSTS code, or on a page of [Names]. It fails with an
// [*UnknownCodeError] or an [*UnknownTopicError].
func Find(name string) (string, error) {
	wanted := canonical(name)
	if code := strings.TrimPrefix(wanted, "aadsts"); code != "" && strings.Trim(code, "0123456789") == "" {
		page, ok := CodePage(code)
		if !ok {
			return "", &UnknownCodeError{Code: code}
		}
		text, _ := Page(page)
		return text, nil
	}
	names := []string{Errors, Configurations, States}
	for _, topic := range topics() {
		if wanted == topic.Name || wanted == topic.full {
			return topic.Text, nil
		}
		names = append(names, topic.Name)
	}
	if text, ok := Page(wanted); ok {
		return text, nil
	}
	for _, prefix := range prefixes {
		wanted = strings.TrimPrefix(wanted, prefix)
	}
	return "", &UnknownTopicError{Topic: name, Suggestions: alike.Closest(wanted, names)}
}
