package faulty

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sociable/sociable/e2e/link"
)

// timings are small, so that the whole table takes seconds.
const timings = `    stall_timeout: 700ms
    header_timeout: 2s
    retries: 2
    breaker_failures: 10
`

// operation is what a client asks for.
type operation struct {
	name, method string
	path         func(i *Image) string
	header       string // Range
	body         func(i *Image) []byte
	object       func(i *Image) link.Match // the upstream's answer that is harmed
}

var operations = []operation{
	{"tag HEAD", "HEAD", func(*Image) string { return "manifests/" + Tag }, "", nil, manifestOf},
	{"tag GET", "GET", func(*Image) string { return "manifests/" + Tag }, "", func(i *Image) []byte { return i.Body }, manifestOf},
	{"manifest GET", "GET", func(i *Image) string { return "manifests/" + i.Manifest.String() }, "", func(i *Image) []byte { return i.Body }, manifestOf},
	{"blob GET", "GET", layerPath, "", func(i *Image) []byte { return i.Bytes }, layerOf},
	{"cold range", "GET", layerPath, "bytes=100000-199999", func(i *Image) []byte { return i.Bytes[100000:200000] }, layerOf},
	{"referrers", "GET", func(i *Image) string { return "referrers/" + i.Manifest.String() }, "", nil, func(*Image) link.Match {
		return func(r link.Request) bool { return strings.Contains(r.Path, "/referrers/") }
	}},
	{"blob HEAD", "HEAD", layerPath, "", nil, layerOf},
}

func layerPath(i *Image) string      { return "blobs/" + i.Layer.String() }
func manifestOf(i *Image) link.Match { return link.Manifest() }
func layerOf(i *Image) link.Match    { return link.Blob(i.Layer) }
func objectSize(o operation, i *Image) int64 {
	switch {
	case strings.HasPrefix(o.path(i), "blobs/"):
		return LayerBytes
	case strings.HasPrefix(o.path(i), "manifests/"):
		return int64(len(i.Body))
	default:
		return int64(len(i.referrers()))
	}
}

// cell is one fault under one operation.
type cell struct {
	fault *fault
	op    operation
	img   *Image
	link  *link.Link
	name  string // of the upstream
}

// run plays the cell and tells what came of it: the client's view, whether the
// object is in the store then, and how often the upstream was asked for
// something in the repository.
func (c *cell) run(ctx context.Context, addr string) (string, error) {
	got, err := c.ask(ctx, addr, c.op.header)
	if err != nil {
		return got, err
	}
	asked := 0
	for _, r := range c.link.Requests() {
		if strings.HasPrefix(r.Path, "/v2/"+c.img.Repo+"/") {
			asked++
		}
	}
	stored := "-"
	if c.op.name != "referrers" {
		c.link.Heal()
		c.link.Forget()
		again, err := c.again(ctx, addr)
		if err != nil {
			return got, err
		}
		if again {
			stored = "stored"
		}
	}
	return fmt.Sprintf("%s, %s, %d", got, stored, asked), nil
}

// again asks for the whole object, and reports whether it came out of the store.
// A manifest is answered before it is stored, and until then who asks again follows.
func (c *cell) again(ctx context.Context, addr string) (bool, error) {
	o := c.op
	o.method, o.header = "GET", ""
	resp, body, err := do(ctx, o, addr, c.name, c.img, "")
	manifest := strings.HasPrefix(o.path(c.img), "manifests/")
	for manifest && err == nil && resp.Header.Get("X-Cache") == "follow" && ctx.Err() == nil {
		resp, body, err = do(ctx, o, addr, c.name, c.img, "")
	}
	if err != nil {
		return false, nil
	}
	if resp.StatusCode == http.StatusOK && o.body != nil && !strings.HasPrefix(o.header, "bytes") && len(body) > 0 {
		want := c.img.Body
		if strings.HasPrefix(o.path(c.img), "blobs/") {
			want = c.img.Bytes
		}
		if !bytes.Equal(body, want) {
			return false, fmt.Errorf("%s is stored wrongly", o.path(c.img))
		}
	}
	return resp.StatusCode == http.StatusOK && resp.Header.Get("X-Cache") == "hit", nil
}

// ask is the client's view: the status with its code, and how the body ends.
func (c *cell) ask(ctx context.Context, addr, header string) (string, error) {
	resp, body, err := do(ctx, c.op, addr, c.name, c.img, header)
	if resp == nil {
		return "", err
	}
	view := fmt.Sprint(resp.StatusCode)
	switch {
	case err != nil:
		view += " cut"
	case resp.StatusCode >= 400 && c.op.method == "GET":
		if m := errorCode.FindSubmatch(body); m != nil {
			view += " " + string(m[1])
		}
	case c.op.header != "" && !bytes.Equal(body, c.op.body(c.img)):
		view += " wrong" // a range of a blob that is not here whole can't be verified
	case c.op.body != nil && !bytes.Equal(body, c.op.body(c.img)):
		return view, fmt.Errorf("a complete wrong body of %d bytes", len(body))
	case c.op.name == "referrers":
		view += fmt.Sprintf(" of %d", bytes.Count(body, []byte("x.signature")))
		if resp.Header.Get("Warning") != "" {
			view += " warned"
		}
	case c.op.method == "HEAD" && resp.StatusCode == 200 && resp.ContentLength != objectSize(c.op, c.img):
		view += " lies" // nor can a size that the upstream says
	}
	return view, nil
}

var errorCode = regexp.MustCompile(`"code":"([A-Z_]+)"`)

func do(ctx context.Context, o operation, addr, name string, i *Image, header string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, o.method, "http://"+addr+"/v2/"+name+"/"+i.Repo+"/"+o.path(i), nil)
	if err != nil {
		return nil, nil, err
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

// TestFaults plays every fault under every operation, each with an upstream and
// an image of its own. A cell that says nothing fails.
func TestFaults(t *testing.T) {
	reg, elsewhere := New(), New()
	defer reg.Close()
	defer elsewhere.Close()
	var cells []*cell
	config := "storage: {fill_after_percent: 0}\nreferrers: {upstream_timeout: 5s}\nupstreams:\n"
	rows, ca := slices.Concat(faults, goAways), caFile(t, reg)
	for f := range rows {
		for o, op := range operations {
			c := &cell{fault: &rows[f], op: op, name: fmt.Sprintf("f%do%d.test", f, o)}
			var err error
			if c.img, err = reg.Add(fmt.Sprintf("r/f%do%d", f, o)); err != nil {
				t.Fatal(err)
			}
			if _, err := elsewhere.Add(c.img.Repo); err != nil {
				t.Fatal(err)
			}
			if f < len(faults) {
				c.link = startLink(t, reg.URL())
			} else {
				c.link = startSecureLink(t, reg)
			}
			config += fmt.Sprintf("  %s:\n    url: %s\n    ca_file: %s\n%s", c.name, c.link.URL(), ca, timings)
			size := objectSize(op, c.img)
			for _, x := range rows[f].make(site{link: c.link, size: size, elsewhere: elsewhere.URL()}) {
				if x.On == nil {
					x.On = op.object(c.img)
				} else {
					x.On = link.All(x.On, op.object(c.img))
				}
				c.link.Inject(x)
			}
			cells = append(cells, c)
		}
	}
	p := startProxy(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got, errs := make([]string, len(cells)), make([]error, len(cells))
	var all sync.WaitGroup
	turns := make(chan struct{}, 8)
	for n, c := range cells {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			got[n], errs[n] = c.run(ctx, p.Addr)
		})
	}
	all.Wait()
	for n, c := range cells {
		t.Run(c.fault.name+"/"+c.op.name, func(t *testing.T) {
			want := c.fault.want[n%len(operations)]
			if errs[n] != nil || !slices.Contains(strings.Split(want, " or "), got[n]) {
				t.Errorf("got %q, %v; want %q", got[n], errs[n], want)
			}
		})
	}
}
