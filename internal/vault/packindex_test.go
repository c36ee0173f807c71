package vault

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// An index is read the same by go-git and by the store, also where the pack is
// larger than 2 GiB.
func TestPackIndex(t *testing.T) {
	w := &packWriter{offset: packHeaderSize}
	checksum := bytes.Repeat([]byte{7}, 20)
	want := map[plumbing.Hash]int64{}
	for i := range 2000 {
		var number [4]byte
		binary.BigEndian.PutUint32(number[:], uint32(i))
		id := objectID(plumbing.BlobObject, number[:])
		want[id] = w.offset
		w.note(id, 3<<20, uint32(i))
	}
	var written bytes.Buffer
	if err := w.writeIndex(&written, checksum); err != nil {
		t.Fatal(err)
	}
	read := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bytes.NewReader(written.Bytes())).Decode(read); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pack-x")
	for ending, content := range map[string][]byte{".idx": written.Bytes(), ".pack": nil} {
		if err := os.WriteFile(path+ending, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := openPackFile(path+".idx", nil)
	if own == nil || !own.isSound() || read.PackfileChecksum != [20]byte(checksum) {
		t.Fatalf("the index cannot be read, or is of the pack %x", read.PackfileChecksum)
	}
	defer own.close()
	for id, offset := range want {
		if got, err := read.FindOffset(id); err != nil || got != offset {
			t.Fatalf("go-git finds %s at %d: %v", id, got, err)
		}
		if got, ok := own.find(id); !ok || got != offset {
			t.Fatalf("the store finds %s at %d, not at %d", id, got, offset)
		}
	}
	if _, ok := own.find(plumbing.NewHash("00")); ok {
		t.Error("an object that is not there was found")
	}
	if crc, err := read.FindCRC32(objectID(plumbing.BlobObject, []byte{0, 0, 0, 9})); err != nil || crc != 9 {
		t.Errorf("the checksum is %d, %v", crc, err)
	}
}
