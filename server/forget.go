package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"understudy.internal/internal/identity"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/tenant"
)

// forgetCommand is `understudy forget`. It works on what the service keeps, whether
// the service runs or not.
type forgetCommand struct {
	SignIn  forgetSignInCommand  `cmd:"" name:"sign-in" help:"Forget the cached sign-in of a tenant's user, and that a password was refused."`
	Keys    forgetKeysCommand    `cmd:"" help:"Forget which keys the replicas on a cluster have, to begin anew with others."`
	DataDir forgetDataDirCommand `cmd:"" name:"data-dir" help:"Forget which data_dir the replicas on a cluster share, to begin anew with another."`
}

// forgetSignInCommand is `understudy forget sign-in`.
type forgetSignInCommand struct {
	Tenant string `arg:"" help:"The tenant: its id, or tenants/{tenant}."`
	Config string `required:"" short:"c" placeholder:"FILE" help:"The configuration file of the service (YAML)."`
}

// Help implements kong's HelpProvider.
func (*forgetSignInCommand) Help() string {
	return `Removes what the service keeps of the sign-ins of a tenant's user, from data_dir or, with journal.cluster, for all replicas.

A service account: a password that was refused is tried again with the next sync, once. Use it when the password is right after all. A password that is wrong locks the account when it is tried too often.

A delegated user: a person has to sign in again. Tokens that were issued before are good until they expire; to end them too, revoke the user's sessions in Entra.

The service may run meanwhile. Run the command as the user that the service runs as.

Examples:

  understudy forget sign-in contoso --config /etc/understudy/understudy.yaml`
}

// Run forgets the sign-in.
func (c *forgetSignInCommand) Run(ctx context.Context, std streams) error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	definition, err := cfg.tenant(strings.TrimPrefix(c.Tenant, "tenants/"))
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	if definition.User == nil {
		return &exitError{exitUsage, fmt.Sprintf("the tenant %s has no user: only users have sign-ins that are kept", definition.ID)}
	}
	cloud, err := cfg.cloud(definition.Cloud)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", definition.ID, err)
	}
	b := tenantBuilder{cfg: cfg, definition: definition, cloud: cloud, plain: slog.New(slog.DiscardHandler)}
	if cfg.Journal.Cluster == nil {
		if err := findDataDir(cfg, c.Config, journalFolder); err != nil {
			return err
		}
	} else {
		store, closeStore, err := openShared(ctx, cfg, signInsStore)
		if err != nil {
			return err
		}
		defer closeStore()
		b.signIns = store
	}
	user, err := b.user(b.common())
	if err != nil {
		return fmt.Errorf("tenant %s: %w", definition.ID, err)
	}
	forgotten, err := user.Forget()
	if err != nil {
		return fmt.Errorf("the sign-in of %s is not forgotten, or not all of it; try again: %w", definition.ID, err)
	}
	return std.say(forgottenText(definition.ID, forgotten))
}

// forgottenText says what was forgotten, and what that means.
func forgottenText(tenant string, forgotten identity.Forgotten) string {
	var text strings.Builder
	if forgotten.SignIn {
		fmt.Fprintf(&text, "The cached sign-in of %s is forgotten: its user has to sign in again.\n", tenant)
	}
	if forgotten.Refusal {
		fmt.Fprintf(&text, "That a password of %s was refused is forgotten: the next sync tries the one that is configured, once.\n", tenant)
	}
	if text.Len() == 0 {
		return fmt.Sprintf("There was nothing to forget of %s.\n", tenant)
	}
	return text.String()
}

// forgetKeysCommand is `understudy forget keys`.
type forgetKeysCommand struct {
	Config string `required:"" short:"c" placeholder:"FILE" help:"The configuration file of a replica (YAML)."`
}

// Help implements kong's HelpProvider.
func (*forgetKeysCommand) Help() string {
	return `Replicas on one cluster must have the same keys.encryption and keys.fingerprint: one that has others does not start. This command lets the replica that starts next say which keys they are.

Stop all replicas first, and give the new keys to all of them. The command listens for half of the lease time, and refuses while a replica is heard; one that is frozen or cut off from the cluster is not. With another encryption key every delegated user has to sign in once more; with another fingerprint key every secret in every backup looks changed once, unless keys.fingerprint_previous names the one before: then this command is not needed.

Examples:

  understudy forget keys --config /etc/understudy/understudy.yaml`
}

// Run forgets the keys' marks.
func (c *forgetKeysCommand) Run(ctx context.Context, std streams) error {
	err := forgetMarks(ctx, c.Config, "whose keys are compared with nobody's", encryptionUse.name, fingerprintUse.name)
	if err != nil {
		return fmt.Errorf("which keys the replicas have is not forgotten, or not all of it: %w", err)
	}
	return std.say("Which keys the replicas have is forgotten: those of the replica that starts next count.\n")
}

// forgetMarks removes what the replicas on a cluster compare with each other when one
// starts; alone says why there is nothing of the kind without a cluster.
func forgetMarks(ctx context.Context, file, alone string, names ...string) error {
	cfg, err := loadConfig(file)
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	if cfg.Journal.Cluster == nil {
		return &exitError{exitUsage, "without journal.cluster there is one process, " + alone + ": there is nothing to forget"}
	}
	if err := refuseBesideReplicas(ctx, cfg); err != nil {
		return err
	}
	store, closeStore, err := openShared(ctx, cfg, keysStore)
	if err != nil {
		return err
	}
	defer closeStore()
	for _, name := range names {
		err = errors.Join(err, store.Delete(name))
	}
	return err
}

// refuseBesideReplicas fails while a replica is heard on the cluster: another one with
// other keys would start beside it, and afterwards the right keys were refused.
func refuseBesideReplicas(ctx context.Context, cfg *config) error {
	cluster, err := cfg.Journal.Cluster.journal()
	if err != nil {
		return err
	}
	workers, err := journal.Listen(ctx, cluster, cfg.Lease)
	if err != nil {
		return fmt.Errorf("nothing is forgotten, because replicas may run: %w", err)
	}
	if len(workers) == 0 {
		return nil
	}
	for i, worker := range workers {
		workers[i], _, _ = strings.Cut(worker, "/") // the rest is another one with each start
	}
	return fmt.Errorf("nothing is forgotten: stop all replicas first. On the cluster these are heard: %s", strings.Join(workers, ", "))
}

// openShared opens what the replicas on a cluster share under a name.
func openShared(ctx context.Context, cfg *config, name string) (*journal.Store, func(), error) {
	cluster, err := cfg.Journal.Cluster.journal()
	if err != nil {
		return nil, nil, err
	}
	return journal.OpenStore(ctx, cluster, name)
}

// tenant returns the definition of a tenant.
func (c *config) tenant(id string) (*tenant.Definition, error) {
	for i := range c.Tenants {
		if c.Tenants[i].ID == id {
			return &c.Tenants[i], nil
		}
	}
	return nil, fmt.Errorf("the configuration has no tenant %s", shown(id))
}
