package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"understudy.internal/docs/help"
)

// helpCommand prints help pages.
type helpCommand struct {
	Reason string `arg:"" optional:"" help:"A reason or state as the server reports it, or an AADSTS code; without it, the list of all."`
}

// Help returns examples.
func (*helpCommand) Help() string {
	return `Prints what a reason means, what is safe, who mends it and how. The pages are part of the program: no network is needed.

Examples:

  understudy help
  understudy help CONDITIONAL_ACCESS_BLOCKED
  understudy help AADSTS53003
  understudy help ERROR_REASON_SYNC_ALREADY_RUNNING
  understudy help COUNT_COLLAPSED
  understudy help PARTIALLY_SUCCEEDED`
}

// Run prints a page, or the list of pages.
func (c *helpCommand) Run(std streams) error {
	if c.Reason == "" {
		return writeTopics(std.out)
	}
	text, err := help.Find(c.Reason)
	var (
		unknown *help.UnknownTopicError
		code    *help.UnknownCodeError
	)
	switch {
	case errors.As(err, &unknown):
		return &exitError{code: exitUsage, message: tryInstead(unknown, "understudy help")}
	case errors.As(err, &code):
		return &exitError{code: exitUsage, message: code.Error()}
	case err != nil:
		return err
	}
	_, err = io.WriteString(std.out, text)
	return err
}

// topicHeadings say what each group of topics is about.
var topicHeadings = map[help.Group]string{
	help.Authentication: "An identity of a tenant could not authenticate (AuthFailureReason):",
	help.Error:          "A call or a sync failed (ErrorReason):",
	help.Configuration:  "A configuration was not backed up completely (ConfigurationFailureReason):",
	help.State:          "How a sync stands, or ended (SyncState):",
	help.Cause:          "What is missing of a sync that PARTIALLY_SUCCEEDED (PartialCause):",
	help.Outcome:        "What became of a configuration type (ConfigurationOutcome):",
}

// writeTopics writes one line for each topic, below the heading of its group.
func writeTopics(w io.Writer) error {
	var b strings.Builder
	heading := ""
	for _, topic := range help.Topics() {
		if next := topicHeadings[topic.Group]; next != heading {
			if heading != "" {
				b.WriteString("\n")
			}
			heading = next
			fmt.Fprintf(&b, "%s\n\n", heading)
		}
		fmt.Fprintf(&b, "  %s\t%s\n", topic.Name, help.Summary(topic.Text))
	}
	b.WriteString("\nPrint one of them: understudy help NAME. An AADSTS code does as well: understudy help AADSTS53003.\n")
	return writeColumns(w, b.String())
}

// writeColumns writes lines, whose cells tabs separate, in columns.
func writeColumns(w io.Writer, text string) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if _, err := io.WriteString(table, text); err != nil {
		return err
	}
	return table.Flush()
}

// tryInstead is the message of a wrong name, with the command that lists the right
// ones.
func tryInstead(err error, command string) string {
	text := err.Error()
	if !strings.HasSuffix(text, "?") {
		text += "."
	}
	return text + " Try: " + command
}
