package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// blob is what the upstream of these tests serves; 200 KiB.
var blob = func() []byte {
	b := make([]byte, 200<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

var blobPath = "/v2/a/b/blobs/" + digest.FromBytes(blob).String()

func startLink(t *testing.T, opt Options) *Link {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	}))
	t.Cleanup(up.Close)
	l, err := Start(up.URL, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the link: %v", err)
		}
	})
	return l
}

// fetch does one request on a connection of its own.
func fetch(t *testing.T, l *Link, method, header string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, l.URL()+blobPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != "" {
		req.Header.Set("Range", header)
	}
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestPassesUnharmed(t *testing.T) {
	l := startLink(t, Options{})
	resp, body, err := fetch(t, l, "GET", "")
	if err != nil || resp.StatusCode != 200 || !bytes.Equal(body, blob) {
		t.Fatalf("GET = %v, %d bytes, %v; want the blob", resp, len(body), err)
	}
	resp, body, err = fetch(t, l, "GET", "bytes=5-9")
	if err != nil || resp.StatusCode != 206 || !bytes.Equal(body, blob[5:10]) {
		t.Fatalf("GET bytes=5-9 = %v, %q, %v", resp, body, err)
	}
	resp, _, err = fetch(t, l, "HEAD", "")
	if err != nil || resp.ContentLength != int64(len(blob)) {
		t.Fatalf("HEAD = %v, %v; want Content-Length %d", resp, err, len(blob))
	}
	got := l.Requests()
	for i := range got {
		got[i].Start, got[i].Done = time.Time{}, false // Done is set after the client has the last byte
	}
	want := []Request{
		{Method: "GET", Path: blobPath, Status: 200, Sent: int64(len(blob))},
		{Method: "GET", Path: blobPath, Range: "bytes=5-9", Status: 206, Sent: 5},
		{Method: "HEAD", Path: blobPath, Status: 200},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
	if n := l.Bytes(Ranged); n != 5 {
		t.Errorf("Bytes(Ranged) = %d, want 5", n)
	}
	l.Forget()
	if got := l.Requests(); got != nil {
		t.Errorf("after Forget: %v", got)
	}
}

func TestFaults(t *testing.T) {
	half := int64(len(blob) / 2)
	wrong := bytes.Clone(blob)
	wrong[half] ^= 1
	for _, test := range []struct {
		name   string
		fault  Fault
		header string // Range
		status int    // 0: no answer
		body   []byte
		err    error // of the transfer; nil: a clean end
		check  func(*http.Response) bool
	}{
		{name: "status", fault: Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, status: 429, body: []byte(`{"errors":[]}`),
			check: func(r *http.Response) bool { return r.Header.Get("Retry-After") == "7" }},
		{name: "status with a body", fault: Fault{Status: 200, Body: []byte("x")}, status: 200, body: []byte("x")},
		{name: "redirect", fault: Fault{Redirect: "http://127.0.0.1:1"}, status: 307,
			check: func(r *http.Response) bool { return r.Header.Get("Location") == "http://127.0.0.1:1"+blobPath }},
		{name: "wrong byte", fault: Fault{WrongBytes: []int64{half}}, status: 200, body: wrong},
		{name: "wrong byte in a range", fault: Fault{WrongBytes: []int64{half}}, header: "bytes=" + strconv.FormatInt(half, 10) + "-", status: 206, body: wrong[half:]},
		{name: "cut", fault: Fault{Cut: half, Ends: Close}, status: 200, body: blob[:half], err: io.ErrUnexpectedEOF},
		{name: "cut at once", fault: Fault{Ends: Close}, status: 200, err: io.ErrUnexpectedEOF},
		{name: "short", fault: Fault{Cut: half, Ends: Short}, status: 200, body: blob[:half]},
		{name: "no range", fault: Fault{NoRange: true}, header: "bytes=5-9", status: 200, body: blob,
			check: func(r *http.Response) bool { return r.Header.Get("Accept-Ranges") == "" }},
		{name: "wrong Content-Range", fault: Fault{Header: http.Header{"Content-Range": {"bytes 0-4/9"}}}, header: "bytes=5-9", status: 206, body: blob[5:10],
			check: func(r *http.Response) bool { return r.Header.Get("Content-Range") == "bytes 0-4/9" }},
		{name: "no Content-Type", fault: Fault{Header: http.Header{"Docker-Content-Digest": {}, "Accept-Ranges": {}}}, status: 200, body: blob,
			check: func(r *http.Response) bool { return r.Header.Get("Accept-Ranges") == "" }},
		{name: "chunked", fault: Fault{Framing: Chunked}, status: 200, body: blob,
			check: func(r *http.Response) bool { return r.ContentLength == -1 && len(r.TransferEncoding) == 1 }},
		{name: "chunked and cut", fault: Fault{Framing: Chunked, Cut: half, Ends: Close}, status: 200, body: blob[:half], err: io.ErrUnexpectedEOF},
		{name: "until EOF", fault: Fault{Framing: UntilEOF}, status: 200, body: blob,
			check: func(r *http.Response) bool { return r.ContentLength == -1 && len(r.TransferEncoding) == 0 }},
		{name: "until EOF and cut", fault: Fault{Framing: UntilEOF, Cut: half, Ends: Close}, status: 200, body: blob[:half]},
		{name: "long", fault: Fault{Framing: LongSized}, status: 200, body: blob, err: io.ErrUnexpectedEOF},
		{name: "refuse", fault: Fault{Refuse: true}, err: syscall.ECONNRESET},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := startLink(t, Options{})
			test.fault.Times = 1
			l.Inject(test.fault)
			resp, body, err := fetch(t, l, "GET", test.header)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("transfer ends with %v, want %v", err, test.err)
			}
			if resp == nil {
				if test.status != 0 {
					t.Errorf("no answer, want %d", test.status)
				}
			} else if resp.StatusCode != test.status || !bytes.Equal(body, test.body) || test.check != nil && !test.check(resp) {
				t.Errorf("answer %v with %d bytes, want %d with %d", resp, len(body), test.status, len(test.body))
			}
			if resp, body, err := fetch(t, l, "GET", ""); err != nil || resp.StatusCode != 200 || !bytes.Equal(body, blob) {
				t.Errorf("after the fault: %v, %d bytes, %v; want the blob", resp, len(body), err)
			}
		})
	}
}

func TestResetInTheBody(t *testing.T) {
	l := startLink(t, Options{})
	l.Inject(Fault{Cut: 1 << 10, Ends: Reset})
	_, body, err := fetch(t, l, "GET", "")
	if err == nil || len(body) > 1<<10 { // a reset may overtake what was sent
		t.Errorf("GET = %d bytes, %v; want a reset after 1024", len(body), err)
	}
}

func TestStallAndSilenceLastUntilTheClientLeaves(t *testing.T) {
	for name, f := range map[string]Fault{
		"stall":  {Cut: 1 << 10, Ends: Stall},
		"silent": {Silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLink(t, Options{})
			l.Inject(f)
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "GET", l.URL()+blobPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			left := make(chan error, 1)
			go func() {
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				left <- err
			}()
			for len(l.Requests()) == 0 || l.Bytes() != f.Cut { // bounded by the test's own timeout
				select {
				case err := <-left:
					t.Fatalf("the answer ended: %v", err)
				default:
				}
			}
			cancel()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v, want to have left", err)
			}
		})
	}
}

func TestFaultsAreScheduled(t *testing.T) {
	l := startLink(t, Options{})
	l.Inject(
		Fault{On: All(Method("GET"), Blob(digest.FromBytes(blob))), Skip: 1, Times: 2, Status: 500},
		Fault{On: Manifest(), Status: 404},
		Fault{On: All(Ranged, Not(Method("HEAD"))), Status: 503},
	)
	var got []string
	for _, r := range []string{"GET", "GET", "HEAD", "GET", "GET", "GET bytes=0-0"} {
		method, header, _ := strings.Cut(r, " ")
		resp, _, err := fetch(t, l, method, header)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r+" "+strconv.Itoa(resp.StatusCode))
	}
	want := []string{"GET 200", "GET 500", "HEAD 200", "GET 500", "GET 200", "GET bytes=0-0 503"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
	l.Heal()
	if resp, _, err := fetch(t, l, "GET", "bytes=0-0"); err != nil || resp.StatusCode != 206 {
		t.Errorf("after Heal: %v, %v", resp, err)
	}
}

func TestDownAndUp(t *testing.T) {
	l := startLink(t, Options{})
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(t, l, "GET", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("GET while down: %v, want it refused", err)
	}
	if err := l.Up(); err != nil {
		t.Fatal(err)
	}
	if _, body, err := fetch(t, l, "GET", ""); err != nil || !bytes.Equal(body, blob) {
		t.Errorf("GET when up again: %d bytes, %v", len(body), err)
	}
}

// TestLatencyAndBandwidthAreLowerBounds can't fail on a slow machine: an answer
// may come later than the link allows, never earlier.
func TestLatencyAndBandwidthAreLowerBounds(t *testing.T) {
	const latency, rate = 10 * time.Millisecond, 4 << 20
	l := startLink(t, Options{Latency: latency, BytesPerSecond: rate})
	start := time.Now()
	if _, body, err := fetch(t, l, "GET", ""); err != nil || !bytes.Equal(body, blob) {
		t.Fatalf("GET = %d bytes, %v", len(body), err)
	}
	least := latency + time.Duration(len(blob))*time.Second/rate
	if took := time.Since(start); took < least {
		t.Errorf("GET took %v, faster than the link's %v", took, least)
	}
}

func TestPacer(t *testing.T) {
	t0 := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return t0.Add(d) }
	p := pacer{rate: 1000}
	for _, step := range []struct {
		name      string
		now, want time.Duration
		n         int
	}{
		{"idle", 0, 100 * time.Millisecond, 100},
		{"shared: behind the first", 0, 300 * time.Millisecond, 200},
		{"a timer that was late loses nothing", 304 * time.Millisecond, 400 * time.Millisecond, 100},
		{"idle time is not saved up", 2 * time.Second, 2100 * time.Millisecond, 100},
	} {
		if got := p.reserve(at(step.now), step.n); !got.Equal(at(step.want)) {
			t.Errorf("%s: reserve = %v, want %v", step.name, got.Sub(t0), step.want)
		}
	}
	if got := (&pacer{}).reserve(t0, 1<<30); !got.Equal(t0) {
		t.Errorf("without a rate: %v later", got.Sub(t0))
	}
}
