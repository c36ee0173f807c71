package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// playgroundCommand is `understudy playground`.
type playgroundCommand struct {
	Folder string `default:"lab" help:"Where the lab's files and backups are kept."`
	Listen string `default:"127.0.0.1:8443" help:"The address of the service."`
	Tenant string `default:"127.0.0.1:9443" help:"The address of the simulated tenant."`
	Admin  string `default:"127.0.0.1:9444" help:"The address of the simulator's admin port."`
	Items  int    `default:"4" help:"How many items each collection of the tenant has."`
}

// Help implements kong's HelpProvider.
func (*playgroundCommand) Help() string {
	return "Serves on loopback with a simulated tenant, until it is interrupted. It prints calls to try."
}

const playgroundText = `
A simulated tenant and the service are ready. Stop them with Ctrl-C.

  service            %[1]s (plain text, loopback only)
  tenants            contoso (service account), fabrikam (delegated sign-in)
  simulated tenant   %[2]s
  admin port         %[3]s
  configuration      %[4]s
  backups            git -C %[5]s log

Try, in another terminal:

  bin/understudy sync contoso --address %[1]s
  grpcurl -plaintext -d '{"parent":"tenants/contoso"}' %[1]s understudy.v1.SyncService/RunSync
  grpcurl -plaintext -d '{"parent":"tenants/contoso"}' %[1]s understudy.v1.SyncService/ListSyncs

Block the user by Conditional Access, and sync again; then let all be well:

  curl -X PUT -d '{"name":"conditional-access-block"}' %[3]s/scenario
  curl -X PUT -d '{"name":"all-well"}' %[3]s/scenario

All scenarios: curl %[3]s/scenarios. After wrong-password the password is not tried again
until it changes. To forget that:

  bin/understudy forget sign-in contoso --config %[4]s

The sign-in of fabrikam: open the address that the sync shows (curl needs --cacert %[6]s),
or let a simulated person complete it:

  bin/understudy sync fabrikam --address %[1]s
  curl -d '{"answer":"complete"}' %[3]s/devicelogin
`

// Run serves until ctx is done.
func (c *playgroundCommand) Run(ctx context.Context, std streams) error {
	l, err := newLab(ctx, labConfig{
		Folder: c.Folder, GRPC: c.Listen, Entra: c.Tenant, Admin: c.Admin, Items: c.Items, SignInTimeout: 2 * time.Minute,
		Logger: labLogger(std.err),
	})
	if err != nil {
		return takenAddress(err, "choose other addresses with --listen, --tenant and --admin")
	}
	defer l.close()
	return l.run(ctx, func(ctx context.Context) error {
		_, err := fmt.Fprintf(std.out, playgroundText, l.address(), l.simulator.URL(), l.simulator.AdminURL(), l.configFile(), l.repository("contoso"),
			filepath.Join(l.Folder, "ca.pem"))
		if err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
}
