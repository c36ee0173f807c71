package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Serve      serveCommand      `cmd:"" help:"Serve the gRPC API, and run syncs."`
	Demo       demoCommand       `cmd:"" help:"Show the main job against a simulated tenant."`
	Playground playgroundCommand `cmd:"" help:"Serve on loopback with a simulated tenant, to play with."`
	Sync       syncCommand       `cmd:"" help:"Sync a tenant on a server, and show what becomes of it."`

	Help     helpCommand     `cmd:"" help:"Explain a reason, an error or an AADSTS code: what is safe, who mends it, and how."`
	Simulate simulateCommand `cmd:"" help:"Run a simulated Microsoft 365 tenant to try things with."`
	Repair   repairCommand   `cmd:"" help:"Look for what a power cut can leave in the repositories, and mend it."`
	Forget   forgetCommand   `cmd:"" help:"Forget a sign-in, a refused password, or which keys and which data_dir replicas have."`
	Catalog  catalogCommand  `cmd:"" help:"List the configuration types, and the permissions to grant for them."`
}

// Exit codes of the commands.
const (
	exitOK      = 0
	exitFailed  = 1
	exitPartial = 3
	exitUsage   = 64 // EX_USAGE of sysexits.h
	exitAway    = 69 // EX_UNAVAILABLE
)

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// complain writes one line for people. When even that fails there is nobody left to
// tell; the exit code says the rest.
func (s streams) complain(message string) {
	_, _ = fmt.Fprintln(s.err, "understudy:", message)
}

// say writes a text for whoever reads the output.
func (s streams) say(text string) error {
	_, err := io.WriteString(s.out, text)
	return err
}

// exitError ends the program with a code, after its message when it has one.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

// run carries a command line out and returns the exit code. SIGINT and SIGTERM end
// the command's context; a second one kills the process.
func run(args []string, in io.Reader, out, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return runContext(ctx, args, streams{in: in, out: out, err: stderr})
}

func runContext(ctx context.Context, args []string, std streams) (code int) {
	var line cli
	exited := errors.New("exited")
	defer func() {
		// Kong ends the program by itself after --help and --version.
		if p := recover(); p != nil && p != any(exited) {
			panic(p)
		}
	}()
	parser, err := kong.New(&line,
		kong.Name("understudy"),
		kong.Description("Backs up the configuration of Microsoft 365 tenants into Git, and goes on when the user cannot sign in."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(c int) { code = c; panic(exited) }),
		kong.Vars{"version": "understudy " + version},
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		std.complain(err.Error())
		return exitFailed
	}
	command, err := parser.Parse(args)
	if err != nil {
		std.complain(err.Error() + ". Try: understudy --help")
		return exitUsage
	}
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(std)
	err = command.Run()
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.message != "" {
			std.complain(exit.message)
		}
		return exit.code
	}
	std.complain(err.Error())
	return exitFailed
}
