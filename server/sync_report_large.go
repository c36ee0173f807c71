package main

import (
	"fmt"
	"strings"
	"time"

	"understudy.internal/internal/engine"
)

// filtered lists what the tenant's definition narrows: nobody is to take a part of
// it for the whole.
func (r *syncReport) filtered() {
	var rows strings.Builder
	n := 0
	for _, result := range r.view.results {
		if filter := result.GetFilter(); filter != "" {
			n++
			fmt.Fprintf(&rows, "  %s\t%s\n", printable(result.GetConfigurationType()), printable(filter))
		}
	}
	if n == 0 {
		return
	}
	fmt.Fprintf(&r.b, "Narrowed by the tenant's definition (%d); what does not match the filter is not backed up:\n", n)
	r.columns("  CONFIGURATION TYPE\tFILTER\n" + rows.String())
}

// dominant says which type the sync spent its time on.
func (r *syncReport) dominant() {
	start, end := r.sync.GetStartTime(), r.sync.GetEndTime()
	if start == nil || end == nil {
		return
	}
	result := engine.Dominant(r.view.results, start.AsTime(), end.AsTime())
	if result == nil {
		return
	}
	fmt.Fprintf(&r.b, "Most of the time, %s of %s, went into %s (%s). If that is too long, exclude it, narrow it by a filter, "+
		"or give it a definition of its own: see Large tenants in docs/deployment.md.\n",
		result.GetDuration().AsDuration().Round(time.Second), end.AsTime().Sub(start.AsTime()).Round(time.Second),
		printable(result.GetConfigurationType()), counted(int(result.GetItemCount()), "item"))
}
