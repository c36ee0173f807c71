package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/tenant"
)

// checkSelection looks up in the catalog what a tenant selects: one by one, so that
// everything is found that names nothing, or cannot be.
func (d *decoder) checkSelection(key string, t *tenant.Definition) error {
	known, err := loadCatalog()
	if err != nil {
		return fmt.Errorf("loading the catalog: %w", err)
	}
	var exclude []string
	for i, pattern := range t.Exclude {
		if _, err := known.Select([]string{pattern}); err != nil {
			d.claimSelection(fmt.Sprintf("%s.exclude[%d]", key, i), pattern, err)
			continue
		}
		exclude = append(exclude, pattern)
	}
	left, err := known.Narrow(exclude, nil)
	if err != nil {
		return fmt.Errorf("excluding configuration types: %w", err)
	}
	if len(left.Types()) == 0 {
		d.claim(key+".exclude", "leaves nothing to back up. Write less.")
		return nil
	}
	for i, pattern := range t.ConfigurationTypes {
		if _, err := left.Select([]string{pattern}); err != nil {
			d.claimSelection(fmt.Sprintf("%s.configuration_types[%d]", key, i), pattern, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.Filters)) {
		if _, err := left.Narrow(nil, tenant.Filters{id: t.Filters[id]}); err != nil {
			d.claimSelection(childKey(key+".filters", id), id, err)
		}
	}
	return nil
}

// claimSelection adds the problem that a pattern or a filter is.
func (d *decoder) claimSelection(key, pattern string, err error) {
	var (
		unknown  *catalog.UnknownPatternError
		excluded *catalog.ExcludedError
		filter   *catalog.FilterError
	)
	switch {
	case errors.As(err, &unknown):
		advice := "`understudy catalog` lists them."
		if len(unknown.Suggestions) > 0 {
			advice = "Did you mean " + strings.Join(unknown.Suggestions, " or ") + "?"
		}
		d.claim(key, "%s names no configuration type. %s", shown(pattern), advice)
	case errors.As(err, &excluded):
		d.claim(key, "%s is excluded by `exclude`. Write it in one of the two places.", shown(pattern))
	case errors.As(err, &filter):
		d.claim(key, "%s", filter.Detail)
	}
}
