package main

import (
	"crypto/tls"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

func TestIsRemote(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": false, "127.8.8.8:1": false, "[::1]:1": false, "localhost:1": false, "unix:/run/understudy.sock": false, "localhost": false,
		"10.0.0.1:1": true, "backup.example:8443": true, "localhost.example:1": true, "[::]:1": true, "0.0.0.0:1": true, "": true,
	} {
		if got := isRemote(address); got != want {
			t.Errorf("isRemote(%q) = %v", address, got)
		}
	}
}

// leaver is a replica that goes in the middle of a stream.
type leaver struct {
	*fakeSyncs
	leave func()
}

func (l *leaver) RunSync(request *understudyv1.RunSyncRequest, stream grpc.ServerStreamingServer[understudyv1.RunSyncResponse]) error {
	_ = l.fakeSyncs.RunSync(request, stream)
	go l.leave()
	<-stream.Context().Done()
	return stream.Context().Err()
}

// Of several replicas the next one is called when one is not there, and when it goes.
func TestNextReplica(t *testing.T) {
	certificate, ca := testCertificate(t)
	serve := func(service func(*grpc.Server) understudyv1.SyncServiceServer) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}})))
		understudyv1.RegisterSyncServiceServer(server, service(server))
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		t.Cleanup(func() {
			server.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		return listener.Addr().String()
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	first, second := partialSync(t), partialSync(t)
	first.cuts = []int{3}
	addresses := gone.Addr().String() + "," +
		serve(func(s *grpc.Server) understudyv1.SyncServiceServer { return &leaver{first, s.Stop} }) + "," +
		serve(func(*grpc.Server) understudyv1.SyncServiceServer { return second })
	code, out, stderr := command(t, "sync", "contoso", "--json", "--ca-file", ca, "--address", addresses)
	if code != exitPartial || len(first.received()) != 1 || len(second.received()) != 1 {
		t.Fatalf("code %d, %v, %v\n%s\n%s", code, first.received(), second.received(), out, stderr)
	}
	want := int64(0)
	for _, event := range jsonEvents(t, out) {
		if event.GetCurrentState() == nil {
			if want++; event.GetSequence() != want {
				t.Errorf("event %d instead of %d", event.GetSequence(), want)
			}
		}
	}
	if want != int64(len(second.events)) {
		t.Errorf("%d events of %d", want, len(second.events))
	}
}
