package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// fetch brings the objects of a commit of the remote here, durably, in a pack of
// their own. have is a commit that both may know, or zero. Nothing names the
// objects yet. Its errors are [*RemoteError] or [*port.StorageError].
func (v *Vault) fetch(ctx context.Context, e *exchange, want, have plumbing.Hash) error {
	asked, sideBand, err := askFor(e.refs.Capabilities, want, have)
	if err != nil {
		return &RemoteError{Reason: RemoteBroken, Detail: "it does not offer what a fetch needs"}
	}
	got, err := e.send(request{body: bytes.NewReader(asked.Bytes()), size: int64(asked.Len())})
	if err != nil {
		return remoteError(ctx, err)
	}
	defer got.Close()
	response := packp.NewUploadPackResponse(packp.NewUploadPackRequest())
	if err := response.Decode(got); err != nil {
		return fetchError(ctx, err)
	}
	var pack io.Reader = response
	if sideBand {
		pack = sideband.NewDemuxer(sideband.Sideband64k, response)
	}
	return v.receive(ctx, pack)
}

// askFor encodes the request for a commit.
func askFor(offered *capability.List, want, have plumbing.Hash) (_ *bytes.Buffer, sideBand bool, err error) {
	r := packp.NewUploadPackRequest()
	r.Wants = []plumbing.Hash{want}
	if !have.IsZero() {
		r.Haves = []plumbing.Hash{have}
	}
	// Azure DevOps serves nobody who does not know multi_ack.
	for _, c := range []capability.Capability{capability.MultiACKDetailed, capability.Sideband64k, capability.OFSDelta} {
		if offered.Supports(c) {
			err = errors.Join(err, r.Capabilities.Set(c))
		}
	}
	if offered.Supports(capability.Agent) {
		err = errors.Join(err, r.Capabilities.Set(capability.Agent, "git/understudy"))
	}
	out := &bytes.Buffer{}
	err = errors.Join(err, r.UploadRequest.Encode(out), r.UploadHaves.Encode(out, false),
		pktline.NewEncoder(out).EncodeString("done\n"))
	return out, r.Capabilities.Supports(capability.Sideband64k), err
}

// fetchError hides what the remote wrote.
func fetchError(ctx context.Context, err error) error {
	classified := remoteError(ctx, err)
	if classified.Reason == RemoteUnreachable && classified.Detail == "" {
		return &RemoteError{Reason: RemoteBroken, Detail: "what it sent is cut off or damaged"}
	}
	return classified
}

// receive stores a pack. It is checked and indexed in a folder of its own, and
// comes among the others when it is whole and on the disk.
func (v *Vault) receive(ctx context.Context, from io.Reader) error {
	incoming, err := os.MkdirTemp(v.config.Directory, incomingFolder+"-*") // mode 0700
	if err != nil {
		return &port.StorageError{Err: err}
	}
	defer func() { _ = os.RemoveAll(incoming) }() // else the next sync does
	packs := filepath.Join(incoming, "objects", "pack")
	if err := os.MkdirAll(packs, 0o700); err != nil {
		return &port.StorageError{Err: err}
	}
	local := &trouble{}
	storage := filesystem.NewStorage(watchedFiles{osfs.New(incoming), local}, cache.NewObjectLRU(8*cache.MiByte))
	input := &inputError{from: from}
	switch err := packfile.UpdateObjectStorage(storage, input); {
	case errors.Is(err, packfile.ErrEmptyPackfile):
		return nil // nothing that we do not have
	case input.err != nil:
		return fetchError(ctx, input.err)
	case local.err() != nil:
		return notKept(local.err())
	case isOfFiles(err):
		return notKept(err)
	case err != nil:
		return fetchError(ctx, err)
	}
	if err := v.adopt(packs, nil); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// notKept says that what a remote sent could not be stored here. That is nothing that the
// remote did.
func notKept(err error) error {
	return &port.StorageError{Err: fmt.Errorf("keeping what the remote sent: %w", err)}
}

// isOfFiles says whether an error is one of our files, such as that a folder is gone.
func isOfFiles(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	return errors.As(err, &path) || errors.As(err, &link)
}

// inputError remembers why reading failed.
type inputError struct {
	from io.Reader
	err  error
}

func (i *inputError) Read(p []byte) (int, error) {
	n, err := i.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		i.err = err
	}
	return n, err
}

// adopt moves packs and indexes among the others, durably, but for those that are there.
func (v *Vault) adopt(folder string, there map[string]bool) error {
	for _, ending := range []string{".idx", ".pack"} { // an index without a pack harms nobody
		paths, err := glob(folder, "pack-*"+ending)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if there[path] {
				continue
			}
			if err := syncFile(path); err != nil {
				return err
			}
			if err := os.Rename(path, filepath.Join(v.packDirectory(), filepath.Base(path))); err != nil {
				return fmt.Errorf("keeping a pack: %w", err)
			}
		}
	}
	return durable.SyncFolder(v.packDirectory())
}
