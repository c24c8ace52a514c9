package ztoc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"time"
)

// BenchmarkFinish is the wait between the last byte of a layer of 10 GB and its
// zTOC: 50,000 files of 200 KiB, whose checkpoints take 78 MB. Beside it stands
// the sha256 of as many bytes, which nothing can be faster than: a zTOC begins
// with what is known last.
func BenchmarkFinish(b *testing.B) {
	const files, fileSize = 50_000, 200 << 10
	content := gzipMember(b, make([]byte, fileSize))
	headers := make([][]byte, files)
	for i := range headers {
		var head bytes.Buffer
		h := tar.Header{Name: fmt.Sprintf("usr/lib/large/%03d/some-library-%05d.so.1.2.3", i/100, i), Size: fileSize, Mode: 0o644, Uname: "root", Gname: "root"}
		if err := tar.NewWriter(&head).WriteHeader(&h); err != nil {
			b.Fatal(err)
		}
		headers[i] = gzipMember(b, head.Bytes())
	}
	end := gzipMember(b, make([]byte, 1024))
	var finish, hash time.Duration
	for range b.N {
		z, err := NewBuilder(DefaultSpanSize, Options{SpillDir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		for _, h := range headers {
			if _, err := z.Write(h); err != nil {
				b.Fatal(err)
			}
			if _, err := z.Write(content); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := z.Write(end); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		r, err := z.Finish()
		if err != nil {
			b.Fatal(err)
		}
		finish += time.Since(begin)
		var all bytes.Buffer
		if _, err := r.WriteTo(&all); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		begin = time.Now()
		sha256.Sum256(all.Bytes())
		hash += time.Since(begin)
	}
	b.ReportMetric(finish.Seconds()*1e3/float64(b.N), "ms/finish")
	b.ReportMetric(hash.Seconds()*1e3/float64(b.N), "ms/sha256")
}

func gzipMember(tb testing.TB, p []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.Copy(w, bytes.NewReader(p)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}
