package ztoc

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"sort"
)

// tarWalk reads the uncompressed stream as a tar and writes its entries to a
// tape. It runs archive/tar in a goroutine of its own, which takes the bytes as
// they are handed in; only headers are read, the rest is stepped over.
type tarWalk struct {
	data chan []byte   // to the goroutine; closed at the end of the stream
	next chan struct{} // from it: the bytes are used up
	done chan struct{} // closed when it has come to an end
	over bool          // done, as feed saw it
	fail error         // what the stream ends with; nil is io.EOF

	cur []byte
	pos int64

	entries    *tape
	count      int
	maxEntries int
	maxBytes   int64
	archive    int64  // where the archive ends
	reject     reject // whether clients take the table
	err        error  // *Error, or of the spill
}

func newTarWalk(s *spill, o Options) *tarWalk {
	t := &tarWalk{
		data: make(chan []byte), next: make(chan struct{}), done: make(chan struct{}),
		entries: &tape{spill: s}, maxEntries: o.MaxEntries, maxBytes: o.MaxTOCBytes,
	}
	go func() {
		defer close(t.done)
		t.err = t.walk()
	}()
	return t
}

// feed hands in the next bytes of the stream. They may be used again when it
// returns.
func (t *tarWalk) feed(p []byte) {
	if t.over || len(p) == 0 {
		return
	}
	select {
	case t.data <- p:
	case <-t.done:
		t.over = true
		return
	}
	select {
	case <-t.next:
	case <-t.done:
		t.over = true
	}
}

// failed is why the walk has ended early, as far as feed knows.
func (t *tarWalk) failed() error {
	if !t.over {
		return nil
	}
	return t.err
}

// finish ends the stream, with err unless it is nil, and gives the walk's
// verdict.
func (t *tarWalk) finish(err error) error {
	t.fail = err
	close(t.data)
	<-t.done
	return t.err
}

// more waits for bytes.
func (t *tarWalk) more() error {
	if t.cur != nil {
		t.cur = nil
		t.next <- struct{}{}
	}
	p, ok := <-t.data
	if !ok {
		if t.fail != nil {
			return t.fail
		}
		return io.EOF
	}
	t.cur = p
	return nil
}

// Read is for archive/tar.
func (t *tarWalk) Read(p []byte) (int, error) {
	if len(t.cur) == 0 {
		if err := t.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.cur)
	t.cur = t.cur[n:]
	t.pos += int64(n)
	return n, nil
}

// Seek is for archive/tar, which steps over what it doesn't read with it.
// Only steps forward are taken, and those only as far as the stream goes.
func (t *tarWalk) Seek(off int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || off < 0 {
		return 0, errors.ErrUnsupported
	}
	for off > 0 {
		if len(t.cur) == 0 {
			if err := t.more(); err == io.EOF {
				break
			} else if err != nil {
				return 0, err
			}
		}
		n := min(off, int64(len(t.cur)))
		t.cur = t.cur[n:]
		t.pos += n
		off -= n
	}
	return t.pos, nil
}

// walk reads all entries.
func (t *tarWalk) walk() error {
	r := tar.NewReader(t)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			t.archive = t.pos
			return nil
		}
		var e *Error
		if errors.As(err, &e) {
			return e
		}
		if err != nil {
			return refuse(ClassTarHeader, t.pos, tarCause(err))
		}
		if err := t.keep(h); err != nil {
			return err
		}
	}
}

// tarCause names the cause in this package's words.
func tarCause(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case errors.Is(err, tar.ErrHeader):
		return ErrNotTar
	}
	return err
}

// kinds are the indexes of entryTypes by type flag.
var kinds = map[byte]uint8{
	tar.TypeReg: 0, tar.TypeDir: 1, tar.TypeSymlink: 2, tar.TypeLink: 3, tar.TypeChar: 4, tar.TypeBlock: 5, tar.TypeFifo: 6,
}

// keep writes an entry to the tape.
func (t *tarWalk) keep(h *tar.Header) error {
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return refuse(ClassTarType, t.pos, fmt.Errorf("tar entry of type %q: %w", h.Typeflag, ErrUnsupported))
	}
	e := tarEntry{kind: kind, sec: h.ModTime.Unix(), nsec: int64(h.ModTime.Nanosecond()), Entry: Entry{
		Name: h.Name, Offset: t.pos, Size: h.Size, Linkname: h.Linkname, Mode: h.Mode,
		UID: uint32(h.Uid), GID: uint32(h.Gid), Uname: h.Uname, Gname: h.Gname,
		DevMajor: h.Devmajor, DevMinor: h.Devminor,
	}}
	n := 100 + len(h.Name) + len(h.Linkname) + len(h.Uname) + len(h.Gname)
	for k, v := range h.PAXRecords {
		e.PAX = append(e.PAX, Record{k, v})
		n += 10 + len(k) + len(v)
	}
	sort.Slice(e.PAX, func(i, j int) bool { return e.PAX[i].Key < e.PAX[j].Key })
	if err := t.entries.add(n, e.appendTo); err != nil {
		return err
	}
	t.reject.entry(e.Offset, e.Size)
	t.count++
	if t.count > t.maxEntries || t.entries.bytes > t.maxBytes {
		return refuse(ClassLimit, t.pos, fmt.Errorf("table of contents of %d files: %w", t.count, ErrTooLarge))
	}
	return nil
}
