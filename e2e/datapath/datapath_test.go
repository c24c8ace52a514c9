package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestLayer(t *testing.T) {
	var a, b, other bytes.Buffer
	first := write(t, &a, 1)
	if again := write(t, &b, 1); again != first || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("the same seed gave %v, then %v", first, again)
	}
	if second := write(t, &other, 2); second.Digest == first.Digest {
		t.Error("two seeds gave one layer")
	}
	checkLayer(t, first, a.Bytes())
	var v bytes.Buffer
	variant, err := writeVariant(&v, first, a.Bytes(), "2")
	if err != nil {
		t.Fatal(err)
	}
	if variant.Digest == first.Digest || variant.DiffID != first.DiffID {
		t.Errorf("%v of %v", variant, first)
	}
	checkLayer(t, variant, v.Bytes())
}

func write(t *testing.T, w io.Writer, seed uint64) layerInfo {
	t.Helper()
	l, err := writeLayer(w, 1<<20, seed)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// checkLayer reads a layer as a client does.
func checkLayer(t *testing.T, l layerInfo, body []byte) {
	t.Helper()
	if l.Size != int64(len(body)) || l.Size < 1<<20 || l.Digest != digest.FromBytes(body) {
		t.Errorf("%v of %d bytes, digest %s", l, len(body), digest.FromBytes(body))
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(plain); got != l.DiffID {
		t.Errorf("diffID %s, want %s", got, l.DiffID)
	}
	if ratio := float64(len(plain)) / float64(len(body)); ratio < 1.8 || ratio > 5 {
		t.Errorf("compressed %.1f times; a root file system is 2 to 4 times", ratio)
	}
	n := 0
	for r := tar.NewReader(bytes.NewReader(plain)); ; n++ {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Errorf("%d files", n)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 1 1 0 -1 4194560 100 0 0 0 150 50 30 20 20 0 1 0 100"
	got, err := parseStat([]byte(line))
	if want := (stat{pid: 42, parent: 7, ticks: 250}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "42 S 1", "42 (a) S 1 2 3", "x (a) S" + strings.Repeat(" 1", 20)} {
		if s, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is %+v, want an error", bad, s)
		}
	}
}

func TestProcessorSeconds(t *testing.T) {
	before, err := processorSeconds(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for x, start := 0, time.Now(); time.Since(start) < 100*time.Millisecond; x++ {
		_ = x
	}
	after, err := processorSeconds(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("%v s, then %v s, %v", before, after, err)
	}
	all := map[int]stat{1: {pid: 1}, 2: {pid: 2, parent: 1}, 3: {pid: 3, parent: 2}, 4: {pid: 4, parent: 1}}
	if !all[3].within(2, all) || all[4].within(2, all) {
		t.Error("3 is a child of 2, and 4 isn't")
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		spans []span
		want  int64
	}{
		{nil, 0},
		{[]span{{0, 10}, {10, 20}}, 0},
		{[]span{{10, 20}, {0, 12}}, 2},
		{[]span{{0, 100}, {20, 30}, {90, 110}}, 20},
		{[]span{{0, 5}, {0, 5}, {0, 5}}, 10},
	} {
		if got := overlap(c.spans); got != c.want {
			t.Errorf("%v: %d bytes twice, want %d", c.spans, got, c.want)
		}
	}
}

func TestReplaceSection(t *testing.T) {
	const ours = sectionBegin + "new\n" + sectionEnd
	for _, c := range []struct{ before, want string }{
		{"# Benchmarks\n", "# Benchmarks\n\n" + ours},
		{"a\n" + sectionBegin + "old\n" + sectionEnd + "b\n", "a\n" + ours + "b\n"},
		{"a\n" + sectionBegin + "old\n", "a\n" + sectionBegin + "old\n\n" + ours},
	} {
		if got := string(replaceSection([]byte(c.before), "new\n")); got != c.want {
			t.Errorf("%q became %q, want %q", c.before, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	r := newRow("a row", "a target")
	if got := r.verdict(); got != "pass" {
		t.Errorf("verdict %q", got)
	}
	r.time(false, "%d ms", 5)
	r.must(false, "%d requests", 2)
	r.Cells[sociable] = "1|2"
	table := markdown([]*row{r})
	for _, want := range []string{"| a row | – | – | – | 1\\|2 | a target |", "**fail**: 2 requests; 5 ms"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

// TestLoad has clients compare and count what a plain file server sends.
func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wrong":
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(bytes.Repeat([]byte{'x'}, 1<<20))
		case "/close":
			w.Header().Set("Connection", "close")
			http.ServeFile(w, r, name)
		default:
			http.ServeFile(w, r, name)
		}
	}))
	defer s.Close()
	spec := loadSpec{Addr: s.Listener.Addr().String(), Clients: 3, Count: 20, File: name, PID: os.Getpid()}
	for _, c := range []struct {
		path   string
		ranged int64
		status int
		check  int
		bad    bool
	}{
		{"/file", 0, 200, 1, false},
		{"/file", 0, 200, 4, false},
		{"/file", 4096, 206, 4, false},
		{"/close", 4096, 206, 2, false},
		{"/file", 4096, 200, 4, true},
		{"/wrong", 0, 200, 4, true},
	} {
		x := spec
		x.Path, x.Range, x.Status, x.Check = c.path, c.ranged, c.status, c.check
		r, err := x.run()
		if (err != nil) != c.bad {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		size := int64(len(body))
		if c.ranged > 0 {
			size = c.ranged
		}
		if r.Requests != 20 || r.Bytes != 20*size || r.Compared < 20/c.check-3 || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

func TestParseHead(t *testing.T) {
	got, err := parseHead([]byte("HTTP/1.1 206 Partial Content\r\ncontent-length: 12\r\nConnection: close\r\n"))
	if want := (head{206, 12, true}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "HTTP/2 200\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n"} {
		if h, err := parseHead([]byte(bad)); err == nil {
			t.Errorf("%q is %+v, want an error", bad, h)
		}
	}
}

func TestEachServerBeginsARound(t *testing.T) {
	servers := []*server{{kind: direct}, {kind: sociable}, {kind: nginx}}
	var got []string
	for round := range 4 {
		line := ""
		for _, s := range inTurn(servers, round) {
			line += string(s.kind[0])
		}
		got = append(got, line)
	}
	if want := []string{"dsn", "nsd", "snd", "dns"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if servers[0].kind != direct {
		t.Error("the servers themselves have another order")
	}
}
