package ztoc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// row is one of testdata/vectors.tsv: what the official builder, v0.15.0,
// makes of a file, and what its client says to that.
type row struct {
	file, compression string
	spanSize          int64
	result            string // digest, or "error:" and a class
	size              string
	spans             string
	client            string
}

func (v row) name() string { return fmt.Sprintf("%s/%s/%d", v.file, v.compression, v.spanSize) }

func readVectors(t testing.TB) []row {
	t.Helper()
	p, err := os.ReadFile("testdata/vectors.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var vs []row
	for _, line := range strings.Split(strings.TrimSpace(string(p)), "\n")[1:] {
		f := strings.Split(line, "\t")
		span, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		vs = append(vs, row{f[0], f[1], span, f[3], f[4], f[5], f[6]})
	}
	if len(vs) < 100 {
		t.Fatalf("only %d vectors", len(vs))
	}
	return vs
}

// verdict is what the client says, as verdictOf has it: that a file cannot be
// read is a reason to reject, too.
func (v row) verdict() string {
	reason, _, _ := strings.Cut(strings.Replace(v.client, "bad:", "reject:", 1), "(")
	return reason
}

// compressionOf is what a media type makes of each name in the vectors.
func compressionOf(name string) Compression {
	switch name {
	case "gzip":
		return Gzip
	case "uncompressed", "unknown":
		return Uncompressed
	}
	return Compression(3)
}

// build makes the zTOC of what r gives.
func build(r io.Reader, spanSize int64, o Options) (*Result, error) {
	b, err := NewBuilder(spanSize, o)
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	if _, err := io.Copy(b, r); err != nil {
		return nil, err
	}
	return b.Finish()
}

func classOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Class == ClassSpanSize {
		return "error:panic" // refused where the official builder crashes
	}
	if errors.As(err, &e) {
		return "error:" + string(e.Class)
	}
	return fmt.Sprint("other error: ", err)
}

func verdictOf(err error) string {
	var e *RejectError
	if errors.As(err, &e) {
		return "reject:" + string(e.Reason)
	}
	return "ok"
}

func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name(), func(t *testing.T) {
			layer, err := os.ReadFile(filepath.Join("testdata/inputs", v.file))
			if err != nil {
				t.Fatal(err)
			}
			for _, chunk := range []int{len(layer) + 1, 1000} {
				r := io.Reader(bytes.NewReader(layer))
				if chunk < len(layer) {
					r = onlyWrite{r, chunk}
				}
				checkVector(t, v, r)
			}
		})
	}
}

// onlyWrite reads at most n bytes at once, and hides what it reads from.
type onlyWrite struct {
	r io.Reader
	n int
}

func (o onlyWrite) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), o.n)]) }

func checkVector(t *testing.T, v row, layer io.Reader) {
	t.Helper()
	r, err := build(layer, v.spanSize, Options{Compression: compressionOf(v.compression), SpillDir: t.TempDir()})
	if err != nil {
		if got := classOf(err); got != v.result {
			t.Errorf("got %s (%v), want %s", got, err, v.result)
		}
		return
	}
	defer r.Close()
	if string(r.Digest) != v.result || strconv.FormatInt(r.Size, 10) != v.size || strconv.Itoa(r.Spans) != v.spans {
		t.Errorf("got %s, %d bytes, %d spans; want %s, %s, %s", r.Digest, r.Size, r.Spans, v.result, v.size, v.spans)
	}
	var z bytes.Buffer
	if n, err := r.WriteTo(&z); err != nil || n != r.Size || int64(z.Len()) != r.Size {
		t.Errorf("wrote %d bytes of %d: %v", n, r.Size, err)
	}
	if want, err := os.ReadFile(fmt.Sprintf("testdata/ztocs/%s.%d.ztoc", v.file, v.spanSize)); err == nil && !bytes.Equal(z.Bytes(), want) {
		t.Error("bytes differ from the official ztoc")
	}
	if got, want := mountVerdict(r.CheckClient()), v.verdict(); got != want {
		t.Errorf("client verdict %s, want %s", got, want)
	}
}

// mountVerdict is the verdict of a client that mounts the layer and opens no file.
func mountVerdict(err error) string {
	if e := new(RejectError); errors.As(err, &e) && e.Reason == RejectUnreadable {
		return verdictOf(nil)
	}
	return verdictOf(err)
}

// tableOf is the span table.
func tableOf(t testing.TB, r *Result) SpanTable {
	t.Helper()
	table, err := r.Table()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestBig builds a layer of 4.25 GiB uncompressed in 70 members.
func TestBig(t *testing.T) {
	part := func(name string) []byte {
		p, err := os.ReadFile("testdata/big/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	head, zeros, tail := part("head.gz"), part("zeros.gz"), part("tail.gz")
	vs := []row{
		{compression: "gzip", spanSize: 4 << 20, result: "sha256:0515dbebebe83b5c142ca096a7bdc874e7c3ea84bce18e5f7aa6b18fa3a76db8", size: "33555672", spans: "1021", client: "ok"},
		{compression: "gzip", spanSize: 64 << 20, result: "sha256:19b8db899fcbca50cdfcafb00ca6369c223a39df6c76cbe3e9599f74a4227250", size: "2136736", spans: "65", client: "ok"},
		{compression: "gzip", spanSize: 1 << 30, result: "sha256:3c92b4b4cc6aa4e223922fba796fd8c9d33049f27fcd98f0e858bf99b333c0b8", size: "164832", spans: "5", client: "ok"},
	}
	if raceEnabled {
		vs = vs[:1]
	}
	for _, v := range vs {
		t.Run(strconv.FormatInt(v.spanSize, 10), func(t *testing.T) {
			t.Parallel()
			parts := []io.Reader{bytes.NewReader(head)}
			for range 68 {
				parts = append(parts, bytes.NewReader(zeros))
			}
			checkVector(t, v, io.MultiReader(append(parts, bytes.NewReader(tail))...))
		})
	}
}
