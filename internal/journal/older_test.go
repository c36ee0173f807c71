package journal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port/porttest"
)

// TestOlderDirectory: what the version before wrote opens with this one: streams that
// allowed direct reading, and events that do not say which append stored them.
func TestOlderDirectory(t *testing.T) {
	directory := t.TempDir()
	s, err := server.NewServer(&server.Options{
		ServerName: "understudy", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: directory, SyncAlways: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the engine was not ready in time")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []jetstream.StreamConfig{
		{Name: "SYNCS", Subjects: []string{"understudy.syncs.>"}, MaxMsgsPerSubject: 1, MaxAge: 90 * 24 * time.Hour, AllowDirect: true},
		{Name: "EVENTS", Subjects: []string{"understudy.events.>"}, MaxAge: 90 * 24 * time.Hour, AllowDirect: true, AllowAtomicPublish: true},
	} {
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(subject, finished string, content proto.Message) {
		t.Helper()
		message := nats.NewMsg(subject)
		if finished != "" {
			message.Header.Set("Understudy-Finished", finished)
		}
		var err error
		if message.Data, err = proto.Marshal(content); err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishMsg(t.Context(), message); err != nil {
			t.Fatal(err)
		}
	}
	over := &understudyv1.Sync{Name: "tenants/contoso/syncs/01a", State: understudyv1.SyncState_SYNC_STATE_SUCCEEDED, EndTime: timestamppb.Now(), LastSequence: 1}
	publish("understudy.syncs.contoso.01a", "true", over)
	publish("understudy.events.contoso.01a", "", &understudyv1.SyncEvent{
		Sequence: 1, Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: over}},
	})
	publish("understudy.syncs.contoso.01b", "false", &understudyv1.Sync{Name: "tenants/contoso/syncs/01b", State: understudyv1.SyncState_SYNC_STATE_PENDING})
	for i, event := range []*understudyv1.SyncEvent{started(), result(1)} {
		event.Sequence = int64(i + 1)
		publish("understudy.events.contoso.01b", "", event)
	}
	conn.Close()
	s.Shutdown()
	s.WaitForShutdown()

	j := open(t, directory)
	if got := list(t, j); len(got) != 2 || got[1].GetEndTime() == nil {
		t.Fatal(got)
	}
	unfinished, err := j.Unfinished(t.Context())
	if err != nil || len(unfinished) != 1 || unfinished[0].Attempt != 1 || unfinished[0].Worker != "" {
		t.Fatal(unfinished, err)
	}
	log := porttest.Open(t, j, "tenants/contoso/syncs/01b")
	porttest.Append(t, log, porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, j.Worker()), result(2))
	porttest.Finish(t, log)
	if got := len(dense(t, j, "tenants/contoso/syncs/01b")); got != 5 {
		t.Errorf("%d events", got)
	}
	create(t, j, "tenants/contoso")
}
