package realimage

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is one layer blob of the layout.
type Layer struct {
	Name         string        `json:"name"`
	MediaType    string        `json:"mediaType"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	DiffID       digest.Digest `json:"diffID"`
	Uncompressed int64         `json:"uncompressed"` // bytes of the tar
	Entries      int           `json:"entries"`      // of the tar; 0 where it is none
}

// compressor makes a layer's bytes of a tar's. The names say which program's
// output the layer holds, because each cuts deflate blocks in its own way.
type compressor struct {
	mediaType string
	wrap      func(io.Writer) (io.WriteCloser, error)
}

var (
	// goGzip is what Docker and BuildKit push.
	goGzip = compressor{v1.MediaTypeImageLayerGzip, func(w io.Writer) (io.WriteCloser, error) {
		return gzip.NewWriterLevel(w, 6)
	}}
	// klauspost is what containers/image and kaniko-like tools push; fastest level.
	klauspost = compressor{v1.MediaTypeImageLayerGzip, func(w io.Writer) (io.WriteCloser, error) {
		return kgzip.NewWriterLevel(w, 1)
	}}
	// gnuGzip pipes through gzip(1).
	gnuGzip = compressor{v1.MediaTypeImageLayerGzip, func(w io.Writer) (io.WriteCloser, error) {
		return newProgram(w, "gzip", "-n", "-4")
	}}
	zstandard = compressor{v1.MediaTypeImageLayerZstd, func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}}
	plain = compressor{v1.MediaTypeImageLayer, func(w io.Writer) (io.WriteCloser, error) {
		return nopCloser{w}, nil
	}}
)

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// program is a compressor that runs as a process.
type program struct {
	io.WriteCloser
	cmd *exec.Cmd
}

func newProgram(w io.Writer, name string, args ...string) (io.WriteCloser, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &program{in, cmd}, nil
}

func (p *program) Close() error {
	return errors.Join(p.WriteCloser.Close(), p.cmd.Wait())
}

// writeLayer makes one layer in blobs, the layout's folder of sha256 blobs.
// fill writes the tar and returns how many entries it has.
func writeLayer(blobs, name string, c compressor, fill func(io.Writer) (int, error)) (Layer, error) {
	f, err := os.CreateTemp(blobs, "."+name+"-*")
	if err != nil {
		return Layer{}, err
	}
	defer os.Remove(f.Name()) // gone when it was renamed
	defer f.Close()
	packed, tarred := newMeter(f), newMeter(nil)
	zw, err := c.wrap(packed)
	if err != nil {
		return Layer{}, err
	}
	bw := bufio.NewWriterSize(io.MultiWriter(tarred, zw), 256<<10)
	entries, err := fill(bw)
	if err = errors.Join(err, bw.Flush(), zw.Close(), f.Close()); err != nil {
		return Layer{}, fmt.Errorf("make layer %s: %w", name, err)
	}
	l := Layer{
		Name: name, MediaType: c.mediaType, Entries: entries,
		Digest: packed.digest(), Size: packed.n, DiffID: tarred.digest(), Uncompressed: tarred.n,
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return Layer{}, err
	}
	return l, os.Rename(f.Name(), filepath.Join(blobs, l.Digest.Encoded()))
}

// meter counts and hashes what it passes on.
type meter struct {
	w io.Writer // nil: nowhere
	h hash.Hash
	n int64
}

func newMeter(w io.Writer) *meter { return &meter{w: w, h: sha256.New()} }

func (m *meter) Write(p []byte) (int, error) {
	m.h.Write(p)
	m.n += int64(len(p))
	if m.w == nil {
		return len(p), nil
	}
	return m.w.Write(p)
}

func (m *meter) digest() digest.Digest { return digest.NewDigest(digest.SHA256, m.h) }

// packageTar merges the files of Debian packages into one tar, in the order of
// debs. A folder that several packages have is written once.
func packageTar(ctx context.Context, w io.Writer, debs []string) (entries int, err error) {
	tw := tar.NewWriter(w)
	seen := map[string]bool{}
	for _, deb := range debs {
		n, err := addPackage(ctx, tw, deb, seen)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", filepath.Base(deb), err)
		}
		entries += n
	}
	return entries, tw.Close()
}

func addPackage(ctx context.Context, tw *tar.Writer, deb string, seen map[string]bool) (n int, err error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start dpkg-deb: %w", err)
	}
	defer func() {
		_, _ = io.Copy(io.Discard, out) // so that it is never left writing
		err = errors.Join(err, cmd.Wait())
	}()
	for tr := tar.NewReader(bufio.NewReaderSize(out, 256<<10)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if !admit(h, seen) {
			continue
		}
		if err := tw.WriteHeader(h); err != nil {
			return n, err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return n, err
		}
		n++
	}
}

// admit names an entry as image builders do, and tells whether it is new.
func admit(h *tar.Header, seen map[string]bool) bool {
	h.Name = strings.TrimPrefix(h.Name, "./")
	if h.Typeflag == tar.TypeLink {
		h.Linkname = strings.TrimPrefix(h.Linkname, "./")
	}
	h.Format = tar.FormatUnknown // the writer takes the plainest that holds it
	if h.Name == "" || seen[h.Name] {
		return false
	}
	seen[h.Name] = true
	return true
}
