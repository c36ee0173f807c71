package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// syncCommand is `understudy sync`, a client of the service.
type syncCommand struct {
	Tenant string `arg:"" optional:"" help:"The tenant to sync: its id, or tenants/{tenant}."`

	Retry  string `placeholder:"SYNC" xor:"what" help:"Sync only what this finished sync did not back up completely."`
	Watch  string `placeholder:"SYNC" xor:"what" help:"Start nothing; follow this sync from its beginning."`
	Cancel string `placeholder:"SYNC" xor:"what" help:"Start nothing; cancel this sync."`

	ConfigurationType []string      `short:"t" placeholder:"TYPE" help:"Sync only these types: an id, intune/* for a workload, or *. Repeat it, or separate with commas. Default: the tenant's."`
	Policy            string        `placeholder:"POLICY" help:"What to do when the user cannot sign in: continue-without-user, require-user or service-principal-only. Default: as the tenant says."`
	AllowPrompt       bool          `xor:"prompt" help:"A person may be asked to sign in."`
	NoPrompt          bool          `xor:"prompt" help:"Nobody is asked to sign in: only a cached sign-in or a service account is used."`
	Timeout           time.Duration `placeholder:"DURATION" help:"How long the sync may run, for example 30m. Default: the server's limit."`
	DryRun            bool          `help:"Read and compare, but commit nothing."`
	Comment           string        `placeholder:"TEXT" help:"A comment for the history."`
	AcceptCollapse    []string      `placeholder:"TYPE" help:"Believe that the items of this type were removed, although the list shrank so much. Repeat it."`

	CancelOnDisconnect bool `help:"Cancel the sync when this command ends before it, by Ctrl-C too."`
	JSON               bool `name:"json" help:"Print every event as one line of JSON, and nothing else. The lines of sign-in prompts have codes in them."`
	Verbose            bool `short:"v" help:"List all results, also of what was backed up."`

	Connection connectionFlags `embed:""`
}

// Help returns examples.
func (*syncCommand) Help() string {
	return `Starts a sync of a tenant on the server, follows it, and prints what was not backed up completely, and why. The sync belongs to the server: it goes on when this command is interrupted.

Exit codes: 0 the sync succeeded, 3 it succeeded partially, 1 it failed, was cancelled or was refused, 64 wrong usage, also when only the server sees it, 69 no server could be called, or none could say how the sync ended.

Examples:

  understudy sync contoso
  understudy sync contoso -t 'intune/*' -t entra/groups --no-prompt
  understudy sync contoso --json | jq -c 'select(.configurationCompleted)'
  understudy sync --retry tenants/contoso/syncs/01jd2v9y0000000000000000zz
  understudy sync --watch tenants/contoso/syncs/01jd2v9y0000000000000000zz
  understudy sync contoso --address backup.example:8443 --tls
  understudy sync contoso --address backup-1.example:8443,backup-2.example:8443 --tls`
}

// Run syncs, retries, watches or cancels.
func (c *syncCommand) Run(ctx context.Context, std streams) error {
	if err := c.check(); err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	connection, err := c.Connection.dial()
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	defer connection.Close()
	return c.run(ctx, understudyv1.NewSyncServiceClient(connection), c.newView(std))
}

// check completes the names, and says what is wrong with the flags.
func (c *syncCommand) check() error {
	c.Tenant = strings.TrimPrefix(c.Tenant, "tenants/")
	if c.Tenant == "" && c.Retry == "" && c.Watch == "" && c.Cancel == "" {
		return errors.New("which tenant? Try: understudy sync TENANT")
	}
	if c.Policy != "" && !slices.Contains(policies, c.Policy) {
		return fmt.Errorf("--policy %q is none of %s", c.Policy, strings.Join(policies, ", "))
	}
	for _, named := range []struct {
		flag string
		name *string
	}{{"--retry", &c.Retry}, {"--watch", &c.Watch}, {"--cancel", &c.Cancel}} {
		if *named.name == "" {
			continue
		}
		if err := c.checkName(named.flag, named.name); err != nil {
			return err
		}
		return c.checkRest(named.flag)
	}
	if c.Timeout < 0 {
		return errors.New("--timeout must be positive")
	}
	return nil
}

// checkName completes the name of a sync with the tenant's.
func (c *syncCommand) checkName(flag string, name *string) error {
	prefix := "tenants/" + c.Tenant + "/syncs/"
	switch tenant, id, isSync := strings.Cut(strings.TrimPrefix(*name, "tenants/"), "/syncs/"); {
	case isSync && c.Tenant != "" && tenant != c.Tenant:
		return fmt.Errorf("%s names a sync of %s, not of %s", flag, tenant, c.Tenant)
	case isSync:
		*name = "tenants/" + tenant + "/syncs/" + id
	case c.Tenant != "" && !strings.Contains(*name, "/"):
		*name = prefix + *name
	default:
		return fmt.Errorf("%s must name a sync in the form tenants/{tenant}/syncs/{sync}", flag)
	}
	return nil
}

// checkRest refuses the flags that have no effect beside one: a person would think
// that they have.
func (c *syncCommand) checkRest(flag string) error {
	retries := flag == "--retry"
	for _, other := range []struct {
		flag string
		set  bool
	}{
		{"--configuration-type", len(c.ConfigurationType) > 0},
		{"--accept-collapse", len(c.AcceptCollapse) > 0},
		{"--timeout", c.Timeout != 0},
		{"--dry-run", c.DryRun},
		{"--policy", c.policy() != understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_UNSPECIFIED && !retries},
		{"--allow-prompt", c.AllowPrompt && !retries},
		{"--no-prompt", c.NoPrompt && !retries},
		{"--comment", c.Comment != "" && !retries},
		{"--cancel-on-disconnect", c.CancelOnDisconnect && !retries},
	} {
		if other.set {
			return fmt.Errorf("%s cannot be used with %s", other.flag, flag)
		}
	}
	return nil
}

// run does what the flags say with a server, and returns how the program ends.
func (c *syncCommand) run(ctx context.Context, client understudyv1.SyncServiceClient, view syncView) error {
	if c.Cancel != "" {
		return c.cancel(ctx, client, view)
	}
	f := &syncFollower{client: client, view: view, name: c.Watch, start: c.starter(client)}
	err := f.follow(ctx)
	view.clear()
	switch {
	case f.final != nil:
		if err := view.end(f.final); err != nil {
			return err
		}
		return &exitError{code: syncExitCode(f.final.GetState())}
	case ctx.Err() != nil:
		return &exitError{exitFailed, c.interrupted(ctx, client, f.name)}
	default:
		text := c.explain(err)
		if f.answered {
			text += "\n  The sync may still run. Watch it: " + c.command("--watch", f.name)
		}
		return &exitError{callExitCode(err), text}
	}
}

// starter returns what starts the sync that the flags describe. It can be called
// again when the answer did not arrive: the request_id makes it one sync.
func (c *syncCommand) starter(client understudyv1.SyncServiceClient) func(context.Context) (syncEvents, string, error) {
	requestID := uuid.NewString()
	if c.Retry != "" {
		return func(ctx context.Context) (syncEvents, string, error) {
			response, err := client.RetrySync(ctx, &understudyv1.RetrySyncRequest{
				Name: c.Retry, RequestId: requestID, Comment: c.Comment,
				AuthenticationPolicy: c.policy(), AllowPrompt: c.allowPrompt(),
			})
			return nil, response.GetSync().GetName(), err
		}
	}
	return func(ctx context.Context) (syncEvents, string, error) {
		stream, err := client.RunSync(ctx, &understudyv1.RunSyncRequest{
			Parent: "tenants/" + c.Tenant, RequestId: requestID, Spec: c.spec(), CancelOnDisconnect: c.CancelOnDisconnect,
		})
		if err != nil {
			return nil, "", err
		}
		return eventsOf(stream.Recv), "", nil
	}
}

// spec is what to sync.
func (c *syncCommand) spec() *understudyv1.SyncSpec {
	spec := &understudyv1.SyncSpec{
		ConfigurationTypes:   c.ConfigurationType,
		AuthenticationPolicy: c.policy(),
		AllowPrompt:          c.allowPrompt(),
		DryRun:               c.DryRun,
		Comment:              c.Comment,
		AcceptCollapse:       c.AcceptCollapse,
	}
	if c.Timeout > 0 {
		spec.Timeout = durationpb.New(c.Timeout)
	}
	return spec
}

// policies are the values of --policy.
var policies = []string{"continue-without-user", "require-user", "service-principal-only"}

// policy is the policy that --policy names; without it that of the tenant.
func (c *syncCommand) policy() understudyv1.AuthenticationPolicy {
	name := "AUTHENTICATION_POLICY_" + strings.ToUpper(strings.ReplaceAll(c.Policy, "-", "_"))
	return understudyv1.AuthenticationPolicy(understudyv1.AuthenticationPolicy_value[name])
}

// allowPrompt is nil where the flags leave it to the tenant.
func (c *syncCommand) allowPrompt() *bool {
	if !c.AllowPrompt && !c.NoPrompt {
		return nil
	}
	return proto.Bool(c.AllowPrompt)
}

// cancel cancels a sync.
func (c *syncCommand) cancel(ctx context.Context, client understudyv1.SyncServiceClient, view syncView) error {
	response, err := client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: c.Cancel})
	if err != nil {
		return &exitError{callExitCode(err), c.explain(err)}
	}
	return view.cancelled(response.GetSync())
}

// cancelTimeout bounds the cancellation of an interrupted command.
const cancelTimeout = 10 * time.Second

// interrupted says what becomes of the sync of an interrupted command.
func (c *syncCommand) interrupted(ctx context.Context, client understudyv1.SyncServiceClient, name string) string {
	switch {
	case name == "" && c.CancelOnDisconnect:
		return "Interrupted before the server answered. A sync that it started is cancelled."
	case name == "":
		return "Interrupted before the server answered. A sync of the tenant may run now; starting another one says which."
	case !c.CancelOnDisconnect:
		return "Interrupted. The sync goes on: " + name +
			"\n  Watch it again: " + c.command("--watch", name) +
			"\n  Cancel it:      " + c.command("--cancel", name)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	if _, err := client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: name}); err != nil {
		return "Interrupted, but the sync could not be cancelled: " + c.explain(err)
	}
	return "Interrupted. The sync is being cancelled: " + name + "\n  Watch it end: " + c.command("--watch", name)
}

// command is a command line that does something else with a sync.
func (c *syncCommand) command(flag, name string) string {
	return "understudy sync " + flag + " " + name + c.Connection.flags()
}

// syncExitCode is the exit code for the state that a sync ended in.
func syncExitCode(state understudyv1.SyncState) int {
	switch state {
	case understudyv1.SyncState_SYNC_STATE_SUCCEEDED:
		return exitOK
	case understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED:
		return exitPartial
	default:
		return exitFailed
	}
}

// callExitCode is the exit code for a call that failed: a server that refuses gives a
// reason, and one that is to come back says UNAVAILABLE. What it calls invalid came from
// the command line.
func callExitCode(err error) int {
	s := status.Convert(err)
	if s.Code() == codes.Unavailable || detailOf[*errdetails.ErrorInfo](s).GetReason() == "" {
		return exitAway
	}
	if s.Code() == codes.InvalidArgument {
		return exitUsage
	}
	return exitFailed
}
