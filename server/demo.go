package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// demoCommand is `understudy demo`.
type demoCommand struct {
	Items int  `default:"4" help:"How many items each collection of the simulated tenant has."`
	Keep  bool `help:"Keep the folder with the backups."`
}

// Help implements kong's HelpProvider.
func (*demoCommand) Help() string {
	return "Starts a simulated tenant and the service on loopback, and shows the main job: a sync, the same with the user\n" +
		"blocked, a sign-in that nobody completes, and the retry of what was missing. It leaves nothing running."
}

// demoSignInTimeout is how long the demo's delegated sign-in waits for a person.
const demoSignInTimeout = 3 * time.Second

// Run shows the main job, and fails when it does not go as promised.
func (c *demoCommand) Run(ctx context.Context, std streams) (err error) {
	folder, err := os.MkdirTemp("", "understudy-demo-*")
	if err != nil {
		return err
	}
	if !c.Keep {
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	}
	l, err := newLab(ctx, labConfig{
		Folder: folder, GRPC: "127.0.0.1:0", Entra: "127.0.0.1:0", Admin: "127.0.0.1:0", Items: c.Items,
		SignInTimeout: demoSignInTimeout, Logger: labLogger(std.err),
	})
	if err != nil {
		return err
	}
	defer l.close()
	return l.run(ctx, func(ctx context.Context) error {
		connection, err := grpc.NewClient(l.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer connection.Close()
		d := &demo{lab: l, out: std.out, client: understudyv1.NewSyncServiceClient(connection)}
		if err := d.play(ctx); err != nil {
			return fmt.Errorf("the demo did not go as promised: %w", err)
		}
		return nil
	})
}

// labLogger logs warnings of the lab: what the service says of failures is part of
// what there is to see.
func labLogger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelError}))
}
