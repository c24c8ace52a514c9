package main

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	official "github.com/awslabs/soci-snapshotter/ztoc"
	"github.com/awslabs/soci-snapshotter/ztoc/compression"

	"github.com/sociable/sociable/ztoc"
)

// TestOfficial spoils layers in many ways and builds them with both builders:
// they must make the same zTOC, or refuse at the same stage.
func TestOfficial(t *testing.T) {
	time.Local = time.UTC // the official builder writes times in the machine's zone
	names, err := filepath.Glob("../../ztoc/testdata/inputs/*")
	if err != nil || len(names) < 50 {
		t.Fatalf("%d inputs, %v", len(names), err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	path := filepath.Join(t.TempDir(), "layer")
	tally := map[string]int{}
	for _, name := range names {
		layer, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(layer) > 200_000 || strings.HasSuffix(name, ".zst") {
			continue
		}
		algorithm := compression.Gzip
		if strings.HasSuffix(name, ".tar") {
			algorithm = compression.Uncompressed
		}
		for i := range 20 {
			spoilt := layer
			if i > 0 {
				spoilt = spoil(r, layer, algorithm == compression.Gzip)
			}
			if err := os.WriteFile(path, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			span := []int64{1, 4096, 65536, 4 << 20}[r.IntN(4)]
			want := buildOfficial(path, span, algorithm)
			got := buildOurs(spoilt, span, algorithm)
			if got != want {
				t.Errorf("%s, spoilt %d times, span size %d: got %s, want %s", filepath.Base(name), i, span, got, want)
			}
			class, _, _ := strings.Cut(want, " ")
			tally[class]++
		}
	}
	t.Log(tally)
	for _, class := range []string{"ztoc", "deflate", "tar-header", "gzip-header"} {
		if tally[class] < 20 {
			t.Errorf("only %d layers ended as %s", tally[class], class)
		}
	}
}

// spoil changes a layer: its bytes, its tar's bytes, its members.
func spoil(r *rand.Rand, layer []byte, isGzip bool) []byte {
	p := bytes.Clone(layer)
	flip := func(p []byte) {
		for range 1 + r.IntN(3) {
			if len(p) > 0 {
				p[r.IntN(len(p))] ^= 1 << r.IntN(8)
			}
		}
	}
	kind := r.IntN(8)
	if !isGzip {
		kind %= 2
	}
	switch kind {
	case 0:
		flip(p)
	case 1:
		p = p[:r.IntN(len(p)+1)]
	case 2:
		flip(p[:min(len(p), 30)])
	case 3:
		flip(p[max(0, len(p)-10):])
	case 4:
		return append(p, p[:r.IntN(len(p)+1)]...)
	default:
		return repack(r, p, kind, flip)
	}
	return p
}

// repack spoils what is inside of a gzip layer and packs it again, in members of
// several kinds.
func repack(r *rand.Rand, layer []byte, kind int, flip func([]byte)) []byte {
	zr, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return layer
	}
	plain, _ := io.ReadAll(zr) // what there is
	if kind == 5 {
		flip(plain)
	}
	var b bytes.Buffer
	for len(plain) > 0 {
		n := min(len(plain), 512*(1+r.IntN(100)))
		w, err := gzip.NewWriterLevel(&b, []int{flate.HuffmanOnly, 0, 1, 6}[r.IntN(4)])
		if err != nil {
			panic(err) // the levels are gzip's
		}
		if r.IntN(6) == 0 {
			w.Name = strings.Repeat("n", 505+r.IntN(12))
		}
		if r.IntN(6) == 0 {
			w.Extra = make([]byte, r.IntN(300))
		}
		for part := plain[:n]; len(part) > 0; {
			k := min(len(part), 1+r.IntN(5000))
			w.Write(part[:k])
			w.Flush()
			part = part[k:]
		}
		w.Close()
		plain = plain[n:]
	}
	return b.Bytes()
}

func buildOfficial(path string, span int64, algorithm string) string {
	z, err := official.NewBuilder(ztoc.BuildTool).BuildZtoc(path, span, official.WithCompression(algorithm))
	if err == nil {
		_, desc, err := official.Marshal(z)
		return fmt.Sprint("ztoc ", desc.Digest, desc.Size, err)
	}
	switch text := err.Error(); {
	case strings.Contains(text, "could not generate gzip zinfo"):
		return string(ztoc.ClassDeflate)
	case errors.Is(err, gzip.ErrHeader):
		return string(ztoc.ClassGzipHeader)
	case strings.Contains(text, "unsupported input tar entry"):
		return string(ztoc.ClassTarType)
	case strings.Contains(text, "error while reading tar header"):
		return string(ztoc.ClassTarHeader)
	}
	return err.Error()
}

func buildOurs(layer []byte, span int64, algorithm string) string {
	o := ztoc.Options{}
	if algorithm == compression.Uncompressed {
		o.Compression = ztoc.Uncompressed
	}
	b, err := ztoc.NewBuilder(span, o)
	if err != nil {
		return err.Error()
	}
	defer b.Abort()
	if _, err = b.Write(layer); err == nil {
		var r *ztoc.Result
		if r, err = b.Finish(); err == nil {
			defer r.Close()
			return fmt.Sprint("ztoc ", r.Digest, r.Size, nil)
		}
	}
	var e *ztoc.Error
	if errors.As(err, &e) {
		return string(e.Class)
	}
	return err.Error()
}
