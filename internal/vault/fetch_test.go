package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"understudy.internal/internal/port"
)

// fetchOnFullDisk fetches more than files may grow to, for a sync and for a repair.
func fetchOnFullDisk(v *Vault) error {
	var err error
	if v.remote, err = newRemote(&Remote{URL: v.config.Directory + ".remote"}); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		return err
	}
	ofDisk := func(err error) bool {
		var stored *port.StorageError
		return errors.As(err, &stored) && errors.Is(err, syscall.EFBIG)
	}
	if _, err := v.Begin(context.Background(), port.Turn{Attempt: 1}); !ofDisk(err) {
		return fmt.Errorf("a sync: %w", err)
	}
	if found, err := v.Repair(context.Background(), true); !ofDisk(err) {
		return fmt.Errorf("a repair: %+v, %w", found, err)
	}
	return nil
}

// That what a remote sends cannot be stored is not for the remote: whoever read that it
// cannot be asked might give it up, which has the only copy.
func TestFetchOnAFullDisk(t *testing.T) {
	v := newVault(t, nil)
	items := map[string]string{}
	for i := range 4 {
		items[fmt.Sprint(i)] = string(randomDocument(uint64(i), 1<<16))
	}
	runSync(t, v, night, whole(groups, items))
	if err := os.Rename(v.config.Directory, v.config.Directory+".remote"); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, roleFetchFull, v.config.Directory).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left, err := os.ReadDir(v.config.Directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		if ok, _ := filepath.Match(incomingFolder+"*", file.Name()); ok {
			t.Errorf("%s is left", file.Name())
		}
	}
}
