package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/catalog/coverage"
)

// catalogCommand prints the configuration types.
type catalogCommand struct {
	Types    []string `placeholder:"PATTERN" default:"*" help:"Only these: an id, intune/* for a workload, or * for all (the default). Repeat it, or separate with commas."`
	Exclude  []string `placeholder:"PATTERN" help:"But not these, as with exclude in a tenant's definition."`
	Identity string   `enum:"all,service-principal,user" default:"all" help:"Only what this identity reads: service-principal or user."`
	JSON     bool     `xor:"form" name:"json" help:"Print JSON."`

	Permissions bool `help:"Print the permissions to grant instead of the types. With --identity, one name a line."`
	PowerShell  bool `xor:"form" name:"powershell" help:"Print a PowerShell script that asks for the permissions in the app registration."`
	Coverage    bool `xor:"form" help:"Print what is covered of what Microsoft documents and other products read, in Markdown."`
}

// Help returns examples.
func (*catalogCommand) Help() string {
	return `Prints the configuration types that this program can back up: where each is read from, by which identity, and with which permissions of Microsoft Graph. docs/entra-application.md shows how to grant them.

Examples:

  understudy catalog
  understudy catalog --identity user
  understudy catalog --types 'intune/*,entra/groups' --json
  understudy catalog --permissions
  understudy catalog --permissions --exclude 'print/*,entra/groups'
  understudy catalog --permissions --identity service-principal
  understudy catalog --powershell > permissions.ps1`
}

// Run prints the types, or what to grant for them.
func (c *catalogCommand) Run(std streams) error {
	all, err := catalog.Load()
	if err != nil {
		return err
	}
	if c.Coverage {
		return coverage.Write(std.out, all)
	}
	types, err := c.selected(all)
	if err != nil {
		return err
	}
	types = slices.DeleteFunc(types, func(t *catalog.Type) bool { return !c.reads(t) })
	switch {
	case c.PowerShell:
		return catalog.WritePermissions(std.out, types)
	case c.Permissions:
		return c.writePermissions(std.out, types)
	case c.JSON:
		return catalog.WriteJSON(std.out, types)
	}
	if err := catalog.WriteTable(std.out, types); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "\n%d configuration types; catalog version %s.\n", len(types), all.Version())
	return err
}

// selected returns the types that the flags select.
func (c *catalogCommand) selected(all *catalog.Catalog) ([]*catalog.Type, error) {
	left, err := all.Narrow(c.Exclude, nil)
	if err != nil {
		return nil, selectionError(err)
	}
	types, err := left.Select(c.Types)
	return types, selectionError(err)
}

// selectionError makes what is wrong with the flags an error of usage.
func selectionError(err error) error {
	var (
		unknown  *catalog.UnknownPatternError
		excluded *catalog.ExcludedError
	)
	switch {
	case errors.As(err, &unknown):
		return &exitError{code: exitUsage, message: tryInstead(unknown, "understudy catalog")}
	case errors.As(err, &excluded):
		return &exitError{code: exitUsage, message: excluded.Error() + " by --exclude, and named by --types: nothing of it is left."}
	}
	return err
}

// reads says whether the identity that was asked for reads a type.
func (c *catalogCommand) reads(t *catalog.Type) bool {
	switch c.Identity {
	case "user":
		return t.Reader() == understudyv1.Identity_IDENTITY_USER
	case "service-principal":
		return t.Reader() == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
	}
	return true
}

// permissionsJSON is what to grant, as JSON.
type permissionsJSON struct {
	Application []string `json:"application"`
	Delegated   []string `json:"delegated"`
}

// writePermissions writes what to grant for types. For one identity it is a bare
// list, for scripts.
func (c *catalogCommand) writePermissions(w io.Writer, types []*catalog.Type) error {
	application, delegated := catalog.Permissions(types)
	if c.JSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(permissionsJSON{append([]string{}, application...), append([]string{}, delegated...)})
	}
	var b strings.Builder
	if c.Identity != "all" {
		for _, name := range slices.Concat(application, delegated) {
			b.WriteString(name + "\n")
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
	writers := writersOf(types)
	list := func(heading string, names []string) {
		fmt.Fprintf(&b, "\n%s (%d):\n\n", heading, len(names))
		for _, name := range names {
			b.WriteString("  " + name)
			if ids := writers[name]; ids != nil {
				b.WriteString("\tcan write; for " + strings.Join(ids, ", "))
			}
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(&b, "The permissions of Microsoft Graph that %d configuration types need.\n", len(types))
	list("Application permissions, for the service principal", application)
	list("Delegated permissions, for the user, who reads only what the service principal cannot", delegated)
	if spare := catalog.ProbePermissions(types); len(spare) > 0 {
		list("Application permissions to grant if you like: with them it is tried whether the service principal can do without the user", spare)
	}
	b.WriteString("\nUnderstudy only reads. Where a permission can write, Microsoft documents none that can less;\n" +
		"to do without it, name the types that it is for in the exclude of the tenant's definition.\n")
	return writeColumns(w, b.String())
}

// writersOf returns, for each permission that can write, the types that need it.
func writersOf(types []*catalog.Type) map[string][]string {
	writers := make(map[string][]string)
	for _, t := range types {
		permissions := t.ServicePrincipal
		if t.Reader() == understudyv1.Identity_IDENTITY_USER {
			permissions = t.User
		}
		for _, name := range permissions {
			if strings.Contains(name, "ReadWrite") {
				writers[name] = append(writers[name], t.ID)
			}
		}
	}
	return writers
}
