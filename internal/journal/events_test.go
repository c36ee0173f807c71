package journal

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// sized is an event of about a size.
func sized(sequence, size int) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Sequence: int64(sequence), Event: &understudyv1.SyncEvent_ConfigurationCompleted{
		ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{Path: strings.Repeat("x", size)}},
	}}
}

// TestPack: events come out as they went in, whatever their number and size; together
// in one message where they are small.
func TestPack(t *testing.T) {
	for _, test := range []struct{ events, size, messages int }{
		{1, 0, 1},
		{1, 900 << 10, 1},
		{2, 0, 1},
		{64, 300, 1},
		{1000, 300, 1},
		{1000, 2 << 10, 4},
		{4, 600 << 10, 4},
		{3, 300 << 10, 3},
	} {
		t.Run(fmt.Sprintf("%d of %d", test.events, test.size), func(t *testing.T) {
			var events []*understudyv1.SyncEvent
			for i := range test.events {
				events = append(events, sized(i+1, test.size))
			}
			messages, err := pack("s", "id", events)
			if err != nil || len(messages) != test.messages {
				t.Fatalf("%d messages, %v", len(messages), err)
			}
			n := 0
			for i, message := range messages {
				got, err := unpack(message.Header, message.Data, uint64(i+7))
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range got {
					if !proto.Equal(s.event, events[n]) || s.id != "id" || s.sequence != uint64(i+7) {
						t.Fatalf("event %d is another one", n+1)
					}
					n++
				}
			}
			if n != len(events) {
				t.Errorf("%d events", n)
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	messages, err := pack("s", "id", []*understudyv1.SyncEvent{sized(1, 3), sized(2, 0), sized(3, 200)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(messages[0].Data, true)
	f.Add(messages[0].Data, false)
	f.Add([]byte{}, true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}, true)
	f.Fuzz(func(t *testing.T, data []byte, packed bool) {
		header := map[string][]string{}
		if packed {
			header[headerPacked] = []string{"3"}
		}
		events, err := unpack(header, data, 1)
		if err == nil && len(events) == 0 {
			t.Error("no event, and no error")
		}
	})
}
