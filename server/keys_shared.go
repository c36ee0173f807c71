package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// keysStore is the name under which the journal keeps the marks of the keys.
const keysStore = "keys"

// sharedKeys keeps the marks of the keys that all replicas have. [journal.Store] does.
type sharedKeys interface {
	// Load returns what was saved last under a name, by whichever replica; nil when
	// nothing was.
	Load(name string) ([]byte, error)
	// Save puts a value in the place of the one before, durably.
	Save(name string, value []byte) error
}

// checkSharedKeys refuses keys that are not those of the other replicas. The first
// replica leaves a mark of each of its keys, by which nobody can find the key out; the
// others compare. A key of fingerprints that is rotated reaches the replicas one by
// one: a mark of one of the previous keys is replaced.
//
// It cannot tell which replicas run now, and of replicas that begin together on a
// store without marks the later mark stays; the others notice, now or at their next
// start.
func checkSharedKeys(store sharedKeys, k keys) error {
	for _, key := range []struct {
		name     string
		now      []byte
		previous [][]byte
		loss     string
		advice   string
	}{
		{
			name: encryptionUse.name, now: k.encryption[:],
			loss: "every delegated user has to sign in once more",
		},
		{
			name: fingerprintUse.name, now: k.fingerprint, previous: k.previousFingerprints,
			loss:   "every secret in every backup looks changed once",
			advice: "If the key is being rotated, name the one before, or the one to come, in keys.fingerprint_previous. ",
		},
	} {
		same, err := checkSharedKey(store, key.name, key.now, key.previous)
		if err != nil {
			return fmt.Errorf("comparing keys.%s with that of the other replicas: %w", key.name, err)
		}
		if !same {
			return fmt.Errorf("keys.%s is not the key that the replicas on this cluster have. Give this one the same. %s"+
				"To begin anew with another key (%s): stop all replicas, give the new key to all of them, "+
				"run `understudy forget keys --config FILE` once, and start them", key.name, key.advice, key.loss)
		}
	}
	return nil
}

// checkSharedKey says whether a key, or one before it, is the one that the replicas
// have, and leaves its mark where there is none or an older one.
func checkSharedKey(store sharedKeys, name string, now []byte, previous [][]byte) (bool, error) {
	own := keyMark(name, now)
	stored, err := store.Load(name)
	if err != nil {
		return false, err
	}
	known := stored == nil || string(stored) == own
	for _, key := range previous {
		known = known || string(stored) == keyMark(name, key)
	}
	if !known || string(stored) == own {
		return known, nil
	}
	if err := store.Save(name, []byte(own)); err != nil {
		return false, err
	}
	if stored != nil {
		return true, nil
	}
	// Another replica may have found no mark either.
	stored, err = store.Load(name)
	return string(stored) == own, err
}

// keyMark stands for a key: who has the key can make it, and nobody else.
func keyMark(name string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("understudy shared key\x00" + name))
	return hex.EncodeToString(mac.Sum(nil))
}
