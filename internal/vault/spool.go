package vault

import "io"

// spool is a text that is written once, and read from its begin as often as needed. A
// little of it is in memory, the rest in the scratch of the staging. It is not for
// concurrent use.
type spool struct {
	scratch *scratch
	// pieces are where full pieces are in the scratch, tail what comes after them.
	pieces []int64
	tail   []byte
}

// spoolPiece is how long a piece is: a multiple of recordStep, so that the records of
// tables stay where they can be named.
const spoolPiece = 4 << 10

// size is how long the text is.
func (s *spool) size() int64 { return int64(len(s.pieces))*spoolPiece + int64(len(s.tail)) }

// Write implements [io.Writer].
func (s *spool) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), spoolPiece-len(s.tail))]
		s.tail, p = append(s.tail, part...), p[len(part):]
		if len(s.tail) < spoolPiece {
			break
		}
		at, err := s.scratch.add(s.tail)
		if err != nil {
			return n - len(p), err
		}
		s.pieces, s.tail = append(s.pieces, at), s.tail[:0]
	}
	return n, nil
}

// writeTo writes the text. Unlike [io.WriterTo] it can be called again.
func (s *spool) writeTo(w io.Writer) error {
	_, err := io.CopyBuffer(onlyWriter{w}, s.reader(), make([]byte, spoolPiece))
	return err
}

// onlyWriter hides that a writer can read, by itself and in pieces of its own.
type onlyWriter struct{ io.Writer }

// reader reads the text from its begin.
func (s *spool) reader() *spoolReader { return &spoolReader{spool: s} }

// spoolReader reads a spool that nobody writes to.
type spoolReader struct {
	spool *spool
	// next is the piece after the one that rest is of.
	next  int
	rest  []byte
	piece []byte
}

// Read implements [io.Reader].
func (r *spoolReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// ReadByte implements [io.ByteReader].
func (r *spoolReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

func (r *spoolReader) fill() error {
	switch {
	case r.next < len(r.spool.pieces):
		if r.piece == nil {
			r.piece = make([]byte, spoolPiece)
		}
		n, err := r.spool.scratch.read(r.piece, r.spool.pieces[r.next])
		if err != nil {
			return err
		}
		if n < spoolPiece {
			return io.ErrUnexpectedEOF
		}
		r.rest = r.piece
	case r.next == len(r.spool.pieces) && len(r.spool.tail) > 0:
		r.rest = r.spool.tail
	default:
		return io.EOF
	}
	r.next++
	return nil
}
