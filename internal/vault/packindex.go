package vault

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"io"
	"slices"
)

// indexMagic begins an index of version 2.
var indexMagic = []byte{0xff, 't', 'O', 'c', 0, 0, 0, 2}

// writeIndex writes the index of a pack that has the checksum. It keeps four bytes
// for each object and no more.
func (w *packWriter) writeIndex(out io.Writer, checksum []byte) error {
	order := make([]uint32, w.objects.n)
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return bytes.Compare(w.objects.at(int(a)).id[:], w.objects.at(int(b)).id[:])
	})
	sum := sha1.New()
	buffer := bufio.NewWriterSize(io.MultiWriter(out, sum), packBuffer)
	write := func(p []byte) { _, _ = buffer.Write(p) } // an error stays until Flush
	each := func(part func(o *packed) []byte) {
		for _, i := range order {
			write(part(w.objects.at(int(i))))
		}
	}
	write(indexMagic)
	write(w.fanout())
	each(func(o *packed) []byte { return o.id[:] })
	number := make([]byte, 0, 8)
	each(func(o *packed) []byte { return binary.BigEndian.AppendUint32(number, o.crc) })
	var large []int64
	each(func(o *packed) []byte {
		if o.offset() < 1<<31 {
			return binary.BigEndian.AppendUint32(number, uint32(o.offset()))
		}
		large = append(large, o.offset())
		return binary.BigEndian.AppendUint32(number, 1<<31|uint32(len(large)-1))
	})
	for _, offset := range large {
		write(binary.BigEndian.AppendUint64(number, uint64(offset)))
	}
	write(checksum)
	if err := buffer.Flush(); err != nil {
		return err
	}
	_, err := out.Write(sum.Sum(nil))
	return err
}

// fanout is how many ids begin with at most each byte.
func (w *packWriter) fanout() []byte {
	var counts [256]uint32
	for i := range w.objects.n {
		counts[w.objects.at(i).id[0]]++
	}
	out := make([]byte, 0, 256*4)
	total := uint32(0)
	for _, n := range counts {
		total += n
		out = binary.BigEndian.AppendUint32(out, total)
	}
	return out
}
