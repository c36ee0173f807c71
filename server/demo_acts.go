package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/identity"
)

// demo is the main job, in four acts.
type demo struct {
	lab    *lab
	out    io.Writer
	client understudyv1.SyncServiceClient
	// full is the first sync of contoso.
	full *understudyv1.Sync
	// missed is the sync of fabrikam whose sign-in nobody completed.
	missed *understudyv1.Sync
}

// say prints a line. That it cannot be printed is no failure of the demo.
func (d *demo) say(format string, v ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", v...) }

func (d *demo) play(ctx context.Context) error {
	d.say("A simulated Microsoft 365 tenant is at %s, the service at %s.", d.lab.simulator.URL(), d.lab.address())
	for _, act := range []func(context.Context) error{d.fullSync, d.userBlocked, d.nobodySignsIn, d.retry} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	d.say("\nThat is the main job. Nothing is left running.")
	return nil
}

func (d *demo) fullSync(ctx context.Context) (err error) {
	d.say("\n1. A full sync, with a service principal and a service account.")
	d.full, err = d.sync(ctx, "contoso", succeeded)
	return err
}

func (d *demo) userBlocked(ctx context.Context) error {
	d.say("\n2. The same tenant, with the user blocked by Conditional Access (AADSTS53003).")
	if err := d.scenario(ctx, "conditional-access-block"); err != nil {
		return err
	}
	partial, err := d.sync(ctx, "contoso", partiallySucceeded)
	if err != nil {
		return err
	}
	if err := d.provenKept(ctx, partial); err != nil {
		return err
	}
	return d.scenario(ctx, "all-well")
}

func (d *demo) nobodySignsIn(ctx context.Context) (err error) {
	d.say("\n3. Another tenant, whose user signs in with a device code. Nobody completes it within %s.", demoSignInTimeout)
	d.missed, err = d.sync(ctx, "fabrikam", partiallySucceeded)
	return err
}

func (d *demo) retry(ctx context.Context) error {
	d.say("\n4. Retry of only what was missing. This time a person completes the sign-in on the tenant's page.")
	d.call("RetrySync", fmt.Sprintf(`{"name":"%s"}`, d.missed.GetName()))
	response, err := d.client.RetrySync(ctx, &understudyv1.RetrySyncRequest{Name: d.missed.GetName()})
	if err != nil {
		return err
	}
	name := response.GetSync().GetName()
	d.call("WatchSync", fmt.Sprintf(`{"name":"%s"}`, name))
	stream, err := d.client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: name})
	if err != nil {
		return err
	}
	final, err := d.follow(ctx, func() (*understudyv1.SyncEvent, error) {
		response, err := stream.Recv()
		return response.GetEvent(), err
	}, d.signInOnPage)
	if err != nil {
		return err
	}
	if got, want := final.GetCounts().GetTotal(), d.missed.GetCounts().GetNotBackedUp(); got != want {
		return fmt.Errorf("the retry read %d configuration types and not the %d that were missing", got, want)
	}
	return expect(final, succeeded)
}

const (
	succeeded          = understudyv1.SyncState_SYNC_STATE_SUCCEEDED
	partiallySucceeded = understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED
)

func expect(sync *understudyv1.Sync, state understudyv1.SyncState) error {
	if sync.GetState() != state {
		return fmt.Errorf("%s ended %s and not %s", sync.GetName(), sync.GetState(), state)
	}
	return nil
}

// call prints the grpcurl call of what happens next.
func (d *demo) call(method, body string) {
	d.say("   $ grpcurl -plaintext -d '%s' %s understudy.v1.SyncService/%s", body, d.lab.address(), method)
}

// sync runs a sync of a tenant and shows its events.
func (d *demo) sync(ctx context.Context, tenant string, state understudyv1.SyncState) (*understudyv1.Sync, error) {
	d.call("RunSync", fmt.Sprintf(`{"parent":"tenants/%s"}`, tenant))
	stream, err := d.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/" + tenant})
	if err != nil {
		return nil, err
	}
	final, err := d.follow(ctx, func() (*understudyv1.SyncEvent, error) {
		response, err := stream.Recv()
		return response.GetEvent(), err
	}, nil)
	if err != nil {
		return nil, err
	}
	return final, expect(final, state)
}

// follow shows the events of a sync until it finished, and returns it as it then
// is.
func (d *demo) follow(
	ctx context.Context, next func() (*understudyv1.SyncEvent, error), prompted func(context.Context, *understudyv1.AuthenticationPrompt) error,
) (*understudyv1.Sync, error) {
	start := time.Now()
	for {
		event, err := next()
		if err != nil {
			return nil, err
		}
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_AuthenticationPrompt:
			p := e.AuthenticationPrompt
			d.say("   sign-in: open %s and enter %s", p.GetVerificationUri(), p.GetUserCode())
			if prompted != nil {
				if err := prompted(ctx, p); err != nil {
					return nil, err
				}
			}
		case *understudyv1.SyncEvent_AuthenticationSucceeded:
			d.say("   signed in: %s (%s)", plain(e.AuthenticationSucceeded.GetIdentity().String(), "IDENTITY_"),
				plain(e.AuthenticationSucceeded.GetMethod().String(), "AUTHENTICATION_METHOD_"))
		case *understudyv1.SyncEvent_AuthenticationFailed:
			f := e.AuthenticationFailed.GetFailure()
			d.say("   %s\n   reason %s%s; who can mend it: %s; not backed up: %d configuration types; see: bin/understudy help %s", f.GetMessage(),
				authReason(f), providerCode(f), remedyActors[f.GetRemedyActor()], f.GetAffectedCount(), authReason(f))
		case *understudyv1.SyncEvent_ConfigurationCompleted:
			if r := e.ConfigurationCompleted.GetResult(); r.GetOutcome() == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED ||
				r.GetOutcome() == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE {
				d.say("   %s: %s", r.GetConfigurationType(), r.GetError().GetMessage())
			}
		case *understudyv1.SyncEvent_Finished:
			sync := e.Finished.GetSync()
			c := sync.GetCounts()
			d.say("   %s in %.1f s: %d configuration types: %d changed, %d unchanged, %d not available, %d not backed up, %d failed or incomplete",
				plain(sync.GetState().String(), "SYNC_STATE_"), time.Since(start).Seconds(), c.GetTotal(), c.GetChanged(), c.GetUnchanged(),
				c.GetNotAvailable(), c.GetNotBackedUp(), c.GetFailed()+c.GetIncomplete())
			if s := sync.GetSnapshot(); s.GetCreated() {
				d.say("   commit %s", s.GetCommit())
			}
			return sync, nil
		}
	}
}

// plain makes `SYNC_STATE_PARTIALLY_SUCCEEDED` into `partially succeeded`.
func plain(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", " ")
}

// scenario says over the admin port what goes wrong in the tenant.
func (d *demo) scenario(ctx context.Context, name string) error {
	address, body := d.lab.simulator.AdminURL()+"/scenario", fmt.Sprintf(`{"name":"%s"}`, name)
	d.say("   $ curl -X PUT -d '%s' %s", body, address)
	return d.request(ctx, http.DefaultClient, http.MethodPut, address, "application/json", body)
}

// signInOnPage does what a person does who was asked to sign in.
func (d *demo) signInOnPage(ctx context.Context, prompt *understudyv1.AuthenticationPrompt) error {
	client, err := identity.NewHTTPClient(identity.Cloud{CAFile: d.lab.Folder + "/ca.pem"})
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	form := url.Values{"code": {prompt.GetUserCode()}, "answer": {"complete"}}
	return d.request(ctx, client, http.MethodPost, prompt.GetVerificationUri(), "application/x-www-form-urlencoded", form.Encode())
}

func (d *demo) request(ctx context.Context, client *http.Client, method, address, contentType, body string) error {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answered %s", method, address, response.Status)
	}
	return nil
}

// provenKept shows with git that the commit of a degraded sync removed nothing.
func (d *demo) provenKept(ctx context.Context, partial *understudyv1.Sync) error {
	results, err := d.client.ListConfigurationResults(ctx, &understudyv1.ListConfigurationResultsRequest{
		Parent: partial.GetName(), PageSize: 1000,
		Outcomes: []understudyv1.ConfigurationOutcome{understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP},
	})
	if err != nil {
		return err
	}
	var paths []string
	for _, r := range results.GetResults() {
		paths = append(paths, r.GetPath())
	}
	slices.Sort(paths)
	d.say("   not backed up: %s", strings.Join(paths, ", "))
	before, after := d.full.GetSnapshot().GetCommit(), partial.GetSnapshot().GetCommit()
	removed, err := d.git(ctx, "diff", "--diff-filter=D", "--name-only", before, after)
	if err != nil {
		return err
	}
	was, err := d.git(ctx, append([]string{"ls-tree", "-r", "--name-only", before, "--"}, paths...)...)
	if err != nil {
		return err
	}
	is, err := d.git(ctx, append([]string{"ls-tree", "-r", "--name-only", after, "--"}, paths...)...)
	if err != nil {
		return err
	}
	d.say("   $ git diff --diff-filter=D --name-only %.10s %.10s    # prints nothing: no file was removed", before, after)
	d.say("   of the configurations not backed up there were %d files before, and there are %d now", len(was), len(is))
	if len(removed) != 0 || len(was) == 0 || len(was) != len(is) {
		return fmt.Errorf("a sync without the user changed what only the user can read: %d files removed", len(removed))
	}
	return nil
}

// git runs git in contoso's repository and returns the lines of its output.
func (d *demo) git(ctx context.Context, args ...string) ([]string, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-C", d.lab.repository("contoso")}, args...)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, stderr.String())
	}
	return strings.Fields(string(out)), nil
}
