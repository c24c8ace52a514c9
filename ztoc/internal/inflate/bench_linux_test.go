package inflate

import (
	"bytes"
	"compress/flate"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	kflate "github.com/klauspost/compress/flate"
)

var layers = flag.String("layers", "", "gzip files to inflate, as a pattern")

// BenchmarkLayers inflates with the Decoder and with klauspost/compress in turn,
// and reports how many times faster the one is than the other by its processor
// time. Without -layers it takes a text of its own.
func BenchmarkLayers(b *testing.B) {
	files := map[string][]byte{"words": packed(b, bytes.Repeat(samples()["words"], 50))}
	if *layers != "" {
		clear(files)
		names, err := filepath.Glob(*layers)
		if err != nil || len(names) == 0 {
			b.Fatalf("no files %s: %v", *layers, err)
		}
		for _, name := range names {
			files[filepath.Base(name)] = deflated(b, name)
		}
	}
	for name, data := range files {
		b.Run(name, func(b *testing.B) { benchmarkRatio(b, data) })
	}
}

// packed deflates text.
func packed(b *testing.B, text []byte) []byte {
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, 6)
	if err != nil {
		b.Fatal(err)
	}
	w.Write(text)
	w.Close()
	return z.Bytes()
}

// deflated is the deflate data of a gzip file with a plain header.
func deflated(b *testing.B, name string) []byte {
	p, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	if len(p) < 18 || p[0] != 0x1f || p[3] != 0 {
		b.Fatalf("%s has no plain gzip header", name)
	}
	return p[10 : len(p)-8]
}

func benchmarkRatio(b *testing.B, data []byte) {
	src := append(bytes.Clone(data), make([]byte, SrcSlack)...)
	d := &Decoder{Dst: make([]byte, Window+256<<10+DstSlack)}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ours, theirs time.Duration
	var size int64
	for range b.N {
		t := threadTime(b)
		size = inflateAll(b, d, src, len(data))
		ours = best(ours, threadTime(b)-t)
		t = threadTime(b)
		n, err := io.Copy(io.Discard, kflate.NewReader(bytes.NewReader(data)))
		if err != nil || n != size {
			b.Fatalf("klauspost: %d bytes of %d: %v", n, size, err)
		}
		theirs = best(theirs, threadTime(b)-t)
	}
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(float64(size)/1e6/ours.Seconds(), "MB/s")
	b.ReportMetric(0, "ns/op")
}

func best(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// inflateAll decodes all of src and gives the length of the output.
func inflateAll(b *testing.B, d *Decoder, src []byte, n int) (total int64) {
	d.Src, d.Pos, d.Bit, d.End, d.Last = src, 0, 0, n, true
	d.W, d.Limit, d.Low = Window, Window+256<<10, Window
	d.Begin()
	for {
		from := d.W
		stop, err := d.Run()
		if err != nil {
			b.Fatal(err)
		}
		total += int64(d.W - from)
		switch stop {
		case End:
			return total
		case NeedOutput:
			copy(d.Dst, d.Dst[d.W-Window:d.W])
			d.Low = max(0, d.Low-(d.W-Window))
			d.W = Window
		}
	}
}

// threadTime is the processor time that this thread has had in user mode.
func threadTime(b *testing.B) time.Duration {
	const rusageThread = 1
	var u syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}
