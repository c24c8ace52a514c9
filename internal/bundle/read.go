package bundle

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxHead bounds index.json and the statement: some hundred bytes a blob.
const maxHead = 64 << 20

// Reader reads a bundle in one pass. It is not safe for concurrent use.
type Reader struct {
	t    *tar.Reader
	st   Statement
	own  digest.Digest
	next int // of st.Blobs
	sig  *Signature
	peek *tar.Header // the first blob's, where it was looked for a signature
}

// NewReader reads up to the first blob. Errors about what the bundle holds wrap
// ErrBundle.
func NewReader(r io.Reader) (*Reader, error) {
	x := &Reader{t: tar.NewReader(r)}
	layout, err := x.head(v1.ImageLayoutFile)
	if err != nil {
		return nil, err
	}
	var version v1.ImageLayout
	if json.Unmarshal(layout, &version) != nil || version.Version != v1.ImageLayoutVersion {
		return nil, unsound("%s is not that of an OCI layout", v1.ImageLayoutFile)
	}
	index, err := x.head(v1.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	statement, err := x.head(statementFile)
	if err != nil {
		return nil, err
	}
	x.own = digest.FromBytes(statement)
	if err := json.Unmarshal(statement, &x.st); err != nil {
		return nil, unsound("%s: %v", statementFile, err)
	}
	if digest.FromBytes(index) != x.st.Index {
		return nil, unsound("%s is not the one that %s states", v1.ImageIndexFile, statementFile)
	}
	if err := x.st.check(); err != nil {
		return nil, err
	}
	return x, x.readSignature()
}

// readSignature looks whether a signature follows, and whether it is of what the
// bundle states.
func (x *Reader) readSignature() error {
	h, err := x.entry()
	if errors.Is(err, io.EOF) {
		return nil // Next says what is missing
	}
	if err != nil {
		return err
	}
	if path.Clean(h.Name) != signatureFile {
		x.peek = h
		return nil
	}
	if h.Size > maxSignature {
		return unsound("%s has %d bytes, at most %d are read", signatureFile, h.Size, maxSignature)
	}
	text, err := io.ReadAll(io.LimitReader(x.t, maxSignature))
	if err != nil {
		return early(err)
	}
	if x.sig, err = parseSignature(text); err != nil {
		return err
	}
	if x.sig.Statement != x.own {
		return unsound("%s signs %s, %s is %s: one of them was changed", signatureFile, x.sig.Statement, statementFile, x.own)
	}
	return nil
}

// Signature is the bundle's; nil where it has none. Whether it is to be trusted is
// another question.
func (x *Reader) Signature() *Signature { return x.sig }

// Statement is what the bundle says of itself, and its digest.
func (x *Reader) Statement() (*Statement, digest.Digest) { return &x.st, x.own }

// head reads one of the files before the blobs, which come in this order.
func (x *Reader) head(name string) ([]byte, error) {
	h, err := x.entry()
	if errors.Is(err, io.EOF) || err == nil && path.Clean(h.Name) != name {
		return nil, unsound("no %s where it should be: was it made by sociable export?", name)
	}
	if err != nil {
		return nil, err
	}
	if h.Size > maxHead {
		return nil, unsound("%s has %d bytes, at most %d are read", name, h.Size, maxHead)
	}
	body, err := io.ReadAll(io.LimitReader(x.t, maxHead))
	if err != nil {
		return nil, early(err)
	}
	return body, nil
}

// entry gives the next regular file; folders say nothing.
func (x *Reader) entry() (*tar.Header, error) {
	for {
		h, err := x.t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case errors.Is(err, tar.ErrInsecurePath):
			return nil, unsound("entry %.200q leads out of it", h.Name)
		case err != nil:
			return nil, early(err)
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || sparse(h): // holes cost nothing to send, and much to read
			return nil, unsound("entry %.200q is no regular file", h.Name)
		}
		return h, nil
	}
}

func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func early(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return unsound("it ends early: is a part missing, or was it cut off?")
	}
	return unsound("%v", err)
}

// Next gives the next blob and its bytes, which are to be read to their end:
// only then, instead of io.EOF, an ErrBundle says that they are others than they
// are called by. io.EOF when there is none left, and all that was stated came.
func (x *Reader) Next() (Blob, io.Reader, error) {
	h, err := x.peek, error(nil)
	if x.peek = nil; h == nil {
		h, err = x.entry()
	}
	if errors.Is(err, io.EOF) {
		if left := len(x.st.Blobs) - x.next; left > 0 {
			return Blob{}, nil, unsound("it ends early: %d of %d blobs are not in it", left, len(x.st.Blobs))
		}
		return Blob{}, nil, io.EOF
	}
	if err != nil {
		return Blob{}, nil, err
	}
	if x.next == len(x.st.Blobs) {
		return Blob{}, nil, unsound("entry %.200q is more than it states", h.Name)
	}
	b := x.st.Blobs[x.next]
	x.next++
	if name := strings.TrimPrefix(h.Name, "./"); name != blobName(b.Digest) {
		return b, nil, unsound("entry %.200q stands where %s should", h.Name, b.Digest)
	}
	if h.Size != b.Size {
		return b, nil, unsound("%s has %d bytes, it states %d", b.Digest, h.Size, b.Size)
	}
	return b, &verified{r: x.t, v: b.Digest.Verifier(), b: b}, nil
}

// verified gives the end of a blob only where it is the right one.
type verified struct {
	r io.Reader
	v digest.Verifier
	b Blob
	n int64
}

func (x *verified) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	x.n += int64(n)
	_, _ = x.v.Write(p[:n]) // a hash takes everything
	switch {
	case errors.Is(err, io.EOF) && (x.n != x.b.Size || !x.v.Verified()):
		return n, unsound("the bytes of %s are others than it is called by", x.b.Digest)
	case err != nil && !errors.Is(err, io.EOF):
		return n, early(err)
	}
	return n, err //nolint:wrapcheck // io.EOF is to be bare
}
