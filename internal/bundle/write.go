package bundle

import (
	"archive/tar"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names of the files before the blobs.
const (
	statementFile = "sociable.json"
	layoutText    = `{"imageLayoutVersion":"` + v1.ImageLayoutVersion + `"}`
)

// Plan is a bundle that is to be written.
type Plan struct {
	st        Statement
	index     []byte
	statement []byte
	signature []byte // nil: it is not signed
}

// NewPlan arranges what images and blobs are to be in a bundle. The order in
// which they are given does not matter.
func NewPlan(images []Image, blobs []Blob, since *Earlier) (*Plan, error) {
	p := &Plan{st: Statement{Version: Version, Images: slices.Clone(images), Blobs: slices.Clone(blobs)}}
	if since != nil {
		p.st.Since = since.Statement
	}
	if p.st.IsLazy() {
		p.st.Version = VersionLazy
	}
	p.st.arrange()
	var err error
	if p.index, err = p.st.layoutIndex(); err != nil {
		return nil, fmt.Errorf("plan a bundle: %w", err)
	}
	p.st.Index = digest.FromBytes(p.index)
	if err := p.st.check(); err != nil {
		return nil, fmt.Errorf("plan a bundle: %w", err)
	}
	if p.statement, err = json.Marshal(p.st); err != nil {
		return nil, fmt.Errorf("plan a bundle: %w", err)
	}
	return p, nil
}

// Sign vouches for all that is going to be in the bundle.
func (p *Plan) Sign(key ed25519.PrivateKey) error {
	x, err := sign(digest.FromBytes(p.statement), key)
	if err == nil {
		p.signature, err = json.Marshal(x)
	}
	if err != nil {
		return fmt.Errorf("sign bundle: %w", err)
	}
	return nil
}

// Statement is what the bundle will say of itself.
func (p *Plan) Statement() *Statement { return &p.st }

// Bytes is the sum of the blobs' sizes.
func (p *Plan) Bytes() (n int64) {
	for _, b := range p.st.Blobs {
		n += b.Size
	}
	return n
}

// Write writes the bundle. open gives a blob's bytes, of which it checks that
// they are as many as was said.
func (p *Plan) Write(w io.Writer, open func(Blob) (io.ReadCloser, error)) error {
	t := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		body []byte
	}{{v1.ImageLayoutFile, []byte(layoutText)}, {v1.ImageIndexFile, p.index}, {statementFile, p.statement}, {signatureFile, p.signature}} {
		if f.body == nil {
			continue
		}
		if err := t.WriteHeader(header(f.name, int64(len(f.body)))); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
		if _, err := t.Write(f.body); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	for _, b := range p.st.Blobs {
		if err := writeBlob(t, b, open); err != nil {
			return fmt.Errorf("write %s into the bundle: %w", b.Digest, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

func writeBlob(t *tar.Writer, b Blob, open func(Blob) (io.ReadCloser, error)) error {
	if err := t.WriteHeader(header(blobName(b.Digest), b.Size)); err != nil {
		return err
	}
	body, err := open(b)
	if err != nil {
		return err
	}
	defer body.Close()
	v := b.Digest.Verifier()
	n, err := io.Copy(t, io.TeeReader(io.LimitReader(body, b.Size), v))
	switch {
	case err != nil:
		return err
	case n != b.Size || !v.Verified():
		return fmt.Errorf("what was read, %d bytes, is not what it is called by", n)
	}
	return nil
}

func blobName(d digest.Digest) string {
	return path.Join(v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// header is the same for the same file: no owner, and the beginning of time.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}
