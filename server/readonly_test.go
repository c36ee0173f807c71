package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// A disk that the kernel makes read-only, as it does when the disk fails: the service
// says so, what was stored can be read all the time, and it stops when it is told to; a start on it
// is refused with what is wrong; a start when it is mended goes on, and every sync
// that was accepted ends once.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := newDisk(t)
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newStorageLab(ctx, t, filepath.Join(disk.folder, "data"))
	server := startServer(ctx, t, l.configFile())
	s := &storageStory{T: t, client: server.client, connection: server.connection}
	s.recovers(ctx) // there is some history

	disk.must("mount", "-o", "remount,abort", disk.folder)
	refusal := s.syncUntilRefused(ctx)
	s.isFull(ctx, refusal)
	eventually(t, time.Minute, "the journal tries to mend itself", func() bool {
		return strings.Contains(server.logged(), "still does not store")
	})
	s.isFull(ctx, refusal) // and history can still be read
	begin := time.Now()
	if err := server.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.command.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %s to stop", took)
	}

	disk.must("umount", disk.folder)
	disk.must("mount", "-o", "loop,ro,noload", disk.image, disk.folder)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	refused := exec.CommandContext(ctx, executable, "serve", "--config", l.configFile())
	refused.Env = append(os.Environ(), asProgram+"=1")
	begin = time.Now()
	said, err := refused.CombinedOutput()
	if err == nil || time.Since(begin) > 20*time.Second || !strings.Contains(string(said), "read-only file system") || !strings.Contains(string(said), disk.folder) {
		t.Errorf("a start on a read-only disk: %v\n%s", err, said)
	}

	disk.must("umount", disk.folder)
	disk.must("mount", "-o", "loop", disk.image, disk.folder)
	again := startServer(ctx, t, l.configFile())
	s.client, s.connection = again.client, again.connection
	s.recovers(ctx)
	for _, name := range s.accepted {
		w := &witness{name: name}
		if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return again.client }); err != nil {
			t.Errorf("%v\n%s", err, w.story())
		}
	}
	runGit(t, "-C", filepath.Join(disk.folder, "data", "repositories", "t00.git"), "fsck", "--full", "--strict")
}

// disk is a file that is mounted.
type disk struct {
	*testing.T
	image, folder string
}

// newDisk mounts a disk, where that is permitted.
func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t, filepath.Join(t.TempDir(), "image"), t.TempDir()}
	writeTestFile(t, d.image, "")
	if err := os.Truncate(d.image, 64<<20); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", d.image}, {"mount", "-o", "loop", d.image, d.folder}} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("a disk cannot be mounted here: %v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) must(command string, arguments ...string) {
	d.Helper()
	if out, err := exec.CommandContext(d.Context(), command, arguments...).CombinedOutput(); err != nil {
		d.Fatalf("%s %v: %v: %s", command, arguments, err, out)
	}
}
