package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// markMap is a store of marks in memory. saved, when it is not nil, runs after a mark
// was saved.
type markMap struct {
	values    map[string][]byte
	err       error
	saves     int
	saved     func(name string)
	saveFails bool
	// adding, when it is not nil, runs before a mark is added.
	adding func()
}

func (m *markMap) Load(name string) ([]byte, error) { return m.values[name], m.err }

func (m *markMap) Save(name string, value []byte) error {
	if m.saveFails {
		return errors.New("full")
	}
	if m.values == nil {
		m.values = map[string][]byte{}
	}
	m.values[name] = value
	m.saves++
	if m.saved != nil {
		m.saved(name)
	}
	return nil
}

// replicaKeys are keys of a replica: an encryption key, that of the fingerprints, and
// those before it, by their first bytes.
func replicaKeys(encryption, fingerprint byte, previous ...byte) keys {
	k := keys{encryption: [keySize]byte(testKey(encryption)), fingerprint: testKey(fingerprint)}
	for _, first := range previous {
		k.previousFingerprints = append(k.previousFingerprints, testKey(first))
	}
	return k
}

func TestReplicasHaveTheSameKeys(t *testing.T) {
	const same = ""
	type start struct {
		keys    keys
		refused string // the key that is named
	}
	for name, starts := range map[string][]start{
		"the same keys": {
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 2), same},
		},
		"another encryption key": {
			{replicaKeys(1, 2), same},
			{replicaKeys(3, 2), "keys.encryption"},
			{replicaKeys(1, 2), same},
		},
		"another fingerprint key": {
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 3), "keys.fingerprint"},
			{replicaKeys(1, 2), same},
		},
		"one for the other": {
			{replicaKeys(1, 2), same},
			{replicaKeys(2, 1), "keys.encryption"},
		},
		"a rotation, replica by replica": {
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 3, 2), same},
			{replicaKeys(1, 3, 2), same},
			{replicaKeys(1, 3), same}, // finished
			{replicaKeys(1, 2), "keys.fingerprint"},
		},
		"a rotation that a replica missed": {
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 3, 2), same},
			{replicaKeys(1, 2), "keys.fingerprint"},
			{replicaKeys(1, 3, 2), same},
		},
		"a rotation that is announced to all first": {
			{replicaKeys(1, 2, 3), same},
			{replicaKeys(1, 2, 3), same},
			{replicaKeys(1, 3, 2), same},
			{replicaKeys(1, 2, 3), same}, // restarted between
			{replicaKeys(1, 3, 2), same},
			{replicaKeys(1, 3, 2), same},
			{replicaKeys(1, 3), same},
		},
		"two rotations at once": {
			{replicaKeys(1, 2), same},
			{replicaKeys(1, 4, 3, 2), same},
			{replicaKeys(1, 3, 2), "keys.fingerprint"},
		},
		"a previous key is no encryption key": {
			{replicaKeys(2, 5), same},
			{replicaKeys(1, 5, 2), "keys.encryption"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := &markMap{}
			for i, s := range starts {
				err := checkSharedKeys(store, s.keys)
				if s.refused == same {
					if err != nil {
						t.Errorf("start %d: %v", i+1, err)
					}
					continue
				}
				if err == nil || !strings.HasPrefix(err.Error(), s.refused+" is not the key that the replicas on this cluster have. Give this one the same.") {
					t.Errorf("start %d: %v", i+1, err)
				}
			}
		})
	}
}

// TestMarksOfKeys: they are written once, tell nothing of the keys, and neither does a
// refusal, which says how to go on.
func TestMarksOfKeys(t *testing.T) {
	store := &markMap{}
	for range 3 {
		if err := checkSharedKeys(store, replicaKeys(1, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if store.saves != 2 || len(store.values) != 2 || bytes.Equal(store.values["encryption"], store.values["fingerprint"]) {
		t.Errorf("%d marks were saved: %q", store.saves, store.values)
	}
	encryption, fingerprint := checkSharedKeys(store, replicaKeys(3, 2)), checkSharedKeys(store, replicaKeys(1, 3))
	for _, refusal := range []error{encryption, fingerprint} {
		if refusal == nil || !strings.Contains(refusal.Error(), "`understudy forget keys --config FILE`") {
			t.Fatalf("the refusal says nothing of how to begin anew: %v", refusal)
		}
	}
	if !strings.Contains(fingerprint.Error(), "fingerprint_previous") || strings.Contains(encryption.Error(), "fingerprint") {
		t.Errorf("the advice is that of another key:\n%v\n%v", encryption, fingerprint)
	}
	said := encryption.Error() + fingerprint.Error() + string(store.values["encryption"]) + string(store.values["fingerprint"])
	for _, first := range []byte{1, 2, 3} {
		for _, text := range []string{hex.EncodeToString(testKey(first)), base64.StdEncoding.EncodeToString(testKey(first)), string(testKey(first))} {
			if strings.Contains(said, text) {
				t.Errorf("key %d is told: %s", first, said)
			}
		}
	}
}

// TestMarksThatCannotBeCompared: a replica does not start on a guess.
func TestMarksThatCannotBeCompared(t *testing.T) {
	away := errors.New("away")
	for name, store := range map[string]*markMap{
		"the store is away": {err: away},
		"the store is full": {saveFails: true},
	} {
		if err := checkSharedKeys(store, replicaKeys(1, 2)); err == nil || !strings.Contains(err.Error(), "comparing keys.encryption") {
			t.Errorf("%s: %v", name, err)
		}
	}
	store := &markMap{values: map[string][]byte{"encryption": []byte("damaged")}}
	if err := checkSharedKeys(store, replicaKeys(1, 2)); err == nil || store.saves != 0 {
		t.Errorf("a mark that is none: %v, %d saved", err, store.saves)
	}
}

// TestReplicasThatBeginTogether: both find no mark; the one whose mark was replaced
// does not start.
func TestReplicasThatBeginTogether(t *testing.T) {
	store := &markMap{}
	store.saved = func(name string) {
		store.values[name] = []byte(keyMark(name, testKey(9)))
	}
	if err := checkSharedKeys(store, replicaKeys(1, 2)); err == nil {
		t.Error("the earlier mark counts")
	}
}
