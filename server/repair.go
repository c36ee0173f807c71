package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"understudy.internal/internal/tenant"
	"understudy.internal/internal/vault"
)

// repairCommand looks at the repositories of tenants, and mends them.
type repairCommand struct {
	Config string   `required:"" short:"c" placeholder:"FILE" help:"The configuration file (YAML)."`
	Tenant []string `placeholder:"TENANT" help:"Only this tenant. Repeat it, or separate with commas. All when it is not given."`
	Apply  bool     `help:"Mend what can be mended. Without it nothing is changed."`
}

// exitLeft says that something is wrong that is not mended.
const exitLeft = 2

// Help implements kong's HelpProvider.
func (*repairCommand) Help() string {
	return `Looks for what a power cut or a failing disk can leave in the repositories under data_dir: a branch that is empty, half a pack, a missing index, stale locks, objects that cannot be read. Every object that a backup needs is read; what is missing or damaged is taken from the tenant's remote, if it has one. Of what has no copy the version of the commit before is kept, and only what has none is left out. While the remote cannot be asked nothing is changed. Nothing that is damaged is deleted: it is put aside, in understudy-damaged beside the repository's files.

Stop the service first. The exit code is 0 when all is well, 2 when something is wrong that is not mended (also because the remote cannot be asked), 3 when everything is mended and something was lost, 1 when a repository could not be looked at, 64 when the command or the configuration is wrong: also when no service has stored anything in data_dir. A relative data_dir begins at the working directory, as for the service.

Examples:

  understudy repair --config /etc/understudy/understudy.yaml
  understudy repair --config /etc/understudy/understudy.yaml --tenant contoso --apply

docs/operations.md says more.`
}

// Run looks at every tenant, and says what it found.
func (c *repairCommand) Run(ctx context.Context, std streams) error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	tenants, err := c.selected(cfg)
	if err != nil {
		return err
	}
	if err := findDataDir(cfg, c.Config, repositoriesFolder); err != nil {
		return err
	}
	unlock, err := lockForRepair(cfg)
	if err != nil {
		return err
	}
	err = c.each(ctx, cfg, tenants, std)
	return errors.Join(err, unlock())
}

func (c *repairCommand) each(ctx context.Context, cfg *config, tenants []*tenant.Definition, std streams) error {
	code := exitOK
	for _, definition := range tenants {
		b := tenantBuilder{
			cfg: cfg, definition: definition, logger: newLogger(cfg, std).With("tenant", definition.ID),
			keys: keys{fingerprint: make([]byte, keySize)}, // nothing is stored here that has a secret
		}
		name := definition.ID + ", in " + b.inRepositories(".git")
		found, err := c.repair(ctx, &b)
		if err != nil {
			std.complain(name + ": " + err.Error())
			code = exitFailed
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if err := c.report(std.out, name, found); err != nil {
			return err
		}
		code = worse(code, codeOf(found))
	}
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// selected returns the tenants that the flags select.
func (c *repairCommand) selected(cfg *config) ([]*tenant.Definition, error) {
	var all, selected []*tenant.Definition
	for i := range cfg.Tenants {
		all = append(all, &cfg.Tenants[i])
	}
	if len(c.Tenant) == 0 {
		return all, nil
	}
	for _, name := range c.Tenant {
		id := strings.TrimPrefix(name, "tenants/")
		i := slices.IndexFunc(all, func(d *tenant.Definition) bool { return d.ID == id })
		if i < 0 {
			return nil, &exitError{exitUsage, fmt.Sprintf("the configuration has no tenant %q", id)}
		}
		selected = append(selected, all[i])
	}
	return selected, nil
}

// lockForRepair makes sure that no service runs on data_dir, also none that shares it.
func lockForRepair(cfg *config) (unlock func() error, err error) {
	alone := *cfg
	alone.DataDirShared = false
	unlock, err = lockDataDir(&alone)
	if errors.Is(err, errInUse) {
		stop := "Stop the service"
		if cfg.DataDirShared {
			stop = "Stop every replica that shares it"
		}
		return nil, fmt.Errorf("data_dir %s is %w, and repair must be alone. %s, then repeat this", cfg.DataDir, errInUse, stop)
	}
	return unlock, err
}

func (c *repairCommand) repair(ctx context.Context, b *tenantBuilder) (*vault.Repair, error) {
	v, err := b.vault()
	if err != nil {
		return nil, err
	}
	return v.Repair(ctx, c.Apply)
}

// codeOf returns the exit code for what was found.
func codeOf(found *vault.Repair) int {
	switch {
	case len(found.Left) > 0:
		return exitLeft
	case slices.ContainsFunc(found.Faults, func(f vault.Fault) bool { return f.Loss }):
		return exitPartial
	}
	return exitOK
}

// worse returns the code that says more.
func worse(a, b int) int {
	order := []int{exitOK, exitPartial, exitLeft, exitFailed}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// report writes what was found of one tenant, whose name has the path.
func (c *repairCommand) report(w io.Writer, name string, found *vault.Repair) error {
	var b strings.Builder
	state := fmt.Sprintf("the branch is at %.12s; %s, %s, all of them read", found.Commit, counted(found.Commits, "commit"), counted(found.Objects, "object"))
	if found.Commit == "" {
		state = "there is no commit"
	}
	switch {
	case !found.Exists:
		fmt.Fprintf(&b, "%s: there is no repository: nothing was backed up here yet.\n", name)
	case len(found.Faults) == 0:
		fmt.Fprintf(&b, "%s: all is well: %s.\n", name, state)
	default:
		fmt.Fprintf(&b, "%s: %s\n", name, count(len(found.Faults)))
		c.faults(&b, found.Faults)
		c.ending(&b, found, state)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ending says what became of the faults, or will.
func (c *repairCommand) ending(b *strings.Builder, found *vault.Repair, state string) {
	lost := slices.ContainsFunc(found.Faults, func(f vault.Fault) bool { return f.Loss })
	switch {
	case found.Held:
		b.WriteString("  Nothing was changed, and nothing is mended before the remote can be asked.\n")
	case !c.Apply && lost:
		fmt.Fprintf(b, "  Nothing was changed. Before --apply look for another copy of the repository: a snapshot, another replica's data_dir.\n"+
			"  Put the files of its objects/pack into this one's, and look again: what they have is not lost.\n"+
			"  --apply carries the remedies out; what is LOST stays lost. Then %s.\n", state)
	case !c.Apply:
		fmt.Fprintf(b, "  Nothing was changed. --apply carries the remedies out. Then %s.\n", state)
	case len(found.Left) > 0:
		b.WriteString("  What is left:\n")
		c.faults(b, found.Left)
	case lost:
		fmt.Fprintf(b, "  That is done. The repository can be used again, without what is LOST: %s.\n"+
			"  Start the service, and sync: what the tenant still has comes back with the next complete reading.\n", state)
	default:
		fmt.Fprintf(b, "  That is done. It is whole again: %s.\n", state)
	}
}

func count(faults int) string {
	if faults == 1 {
		return "one thing is wrong:"
	}
	return fmt.Sprintf("%d things are wrong:", faults)
}

func (c *repairCommand) faults(b *strings.Builder, faults []vault.Fault) {
	for _, f := range faults {
		mark := "-"
		if f.Loss {
			mark = "- LOST:"
		}
		fmt.Fprintf(b, "  %s %s.\n", mark, f.What)
		if f.Remedy != "" {
			fmt.Fprintf(b, "      Remedy: %s.\n", f.Remedy)
		}
	}
}
