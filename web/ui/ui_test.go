package ui

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/web"
)

// apiCase is a request, and what is in its answer.
type apiCase struct {
	method, target, body string
	status               int
	want                 string
}

// asDocumented holds that answers are what is wanted, and what the document says.
func (r *rig) asDocumented(cases []apiCase) {
	t := r.t
	t.Helper()
	router, err := gorillamux.NewRouter(load(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.method+" "+strings.TrimPrefix(c.target, "/api/v1")+c.body, func(t *testing.T) {
			w := r.do(c.method, c.target, c.body, "Content-Type", "application/json")
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Fatalf("status %d, want %d with %q: %.2000s", w.Code, c.status, c.want, w.Body)
			}
			req := httptest.NewRequest(c.method, c.target, strings.NewReader(c.body))
			req.Header.Set("Content-Type", "application/json")
			route, vars, err := router.FindRoute(req)
			if err != nil {
				t.Fatal(err)
			}
			err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: vars, Route: route},
				Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
			})
			if err != nil {
				t.Errorf("the answer is not what the document says: %v", err)
			}
		})
	}
}

// TestAPI holds that every answer is what the document says.
func TestAPI(t *testing.T) {
	r := newRig(t, nil)
	layer := "/api/v1/layers/" + r.big.Digest().String()
	none := digest.FromString("none").String()
	r.asDocumented([]apiCase{
		{"GET", "/api/v1/overview", "", 200, `"seconds_left":60`},
		{"GET", "/api/v1/overview?range=7d", "", 200, `"range":"7d"`},
		{"GET", "/api/v1/overview?range=1y", "", 400, "UNSUPPORTED"},
		{"GET", "/api/v1/overview?ranges=1h", "", 400, "this takes range"},
		{"GET", "/api/v1/images?orderr=desc", "", 400, `there is no parameter`},
		{"GET", "/api/v1/images?limit=many", "", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/api/v1/missing?q=x", "", 400, "this takes none"},
		{"GET", "/api/v1/images?q=redis&sort=size&order=desc&limit=5", "", 200, `"platform":"linux/arm64"`},
		{"GET", "/api/v1/images?sort=colour", "", 400, "there is no column"},
		{"GET", "/api/v1/images?offset=-1", "", 400, "offset is a number"},
		{"GET", "/api/v1/images/" + r.image.String(), "", 200, `"artifact_type":"application/vnd.dev.cosign"`},
		{"GET", "/api/v1/images/" + none, "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/api/v1/images/sha256:12", "", 400, "DIGEST_INVALID"},
		{"GET", layer, "", 200, `"span_list":[{"number":0`},
		{"GET", layer + "/checkpoints?limit=2", "", 200, `"checkpoints":[{"span":0`},
		{"GET", layer + "/files", "", 200, `"status":"added"`},
		{"GET", "/api/v1/layers/" + r.small.String() + "/files?path=etc&image=" + r.image.String(), "", 200, `"path":"etc/new"`},
		{"GET", "/api/v1/layers/" + r.small.String() + "/files?search=NEW&image=" + r.image.String(), "", 200, `"path":"etc/new"`},
		{"GET", "/api/v1/layers/" + none + "/files", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", layer + "/files?path=none", "", 404, "has no folder"},
		{"GET", "/api/v1/layers/" + r.small.String(), "", 200, `"reason":"too-small"`},
		{"GET", layer + "?image=" + none, "", 404, "no image " + none},
		{"GET", "/api/v1/layers/" + none + "?image=" + r.image.String(), "", 404, "with the layer " + none},
		{"GET", layer + "/file?name=none", "", 404, "BLOB_UNKNOWN"},
		{"GET", layer + "/file", "", 400, "NAME_INVALID"},
		{"GET", "/api/v1/layers/" + r.small.String() + "/ztoc?image=" + r.image.String(), "", 404, "too-small"},
		{"GET", "/api/v1/jobs", "", 200, `"failed":1`},
		{"POST", "/api/v1/jobs/retry", `{"id":"none"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/jobs/retry", `{"name":"x"}`, 400, "NAME_INVALID"},
		{"POST", "/api/v1/jobs/retry", `{"id":""}`, 200, `{"jobs":1}`},
		{"POST", "/api/v1/jobs/cancel", `{"id":"none"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/jobs/cancel", `{"id":"layer:` + r.big.Digest().String() + `/5"}`, 200, `{"jobs":1}`},
		{"GET", "/api/v1/jobs", "", 200, `"cancelled":1`},
		{"GET", "/api/v1/missing", "", 200, `"images":["docker.io/library/redis:`},
		{"GET", "/api/v1/setup", "", 200, "registries.yaml"},
		{"POST", "/api/v1/setup/test", `{"image":""}`, 200, `127.0.0.1:5000/docker.io/library/redis:7`},
		{"POST", "/api/v1/setup/test", `{"image":"redis:7"}`, 200, `127.0.0.1:5000/docker.io/library/redis:7`},
		{"POST", "/api/v1/setup/test", `{"image":"../x"}`, 400, "NAME_INVALID"},
		{"GET", "/api/v1/openapi.json", "", 200, "openapi"},
	})
	for target, status := range map[string]int{"/api/v1/none": 404, "/api/v2": 404, "/api/v1/jobs": 405} {
		if w := r.do("DELETE", target, ""); w.Code != status || !strings.Contains(w.Body.String(), `"code":"UNSUPPORTED"`) {
			t.Errorf("DELETE %s: %d %s, want %d", target, w.Code, w.Body, status)
		}
	}
}

// TestBudget: what an upstream leaves of its limit is on the Overview, and what it
// says nothing of is not.
func TestBudget(t *testing.T) {
	reg := prometheus.NewRegistry()
	for name, v := range map[string]float64{"remaining": 61, "limit": 100} {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sociable_upstream_ratelimit_" + name}, []string{"upstream", "endpoint"})
		g.WithLabelValues("docker.io", "https://registry-1.docker.io").Set(v)
		reg.MustRegister(g)
	}
	r := newRig(t, func(o *Options) {
		o.Gatherer = reg
		o.Health = func() []web.Health {
			return []web.Health{{Name: "upstream docker.io https://registry-1.docker.io", State: "ok"}, {Name: "upstream ghcr.io https://ghcr.io", State: "ok"}}
		}
	})
	var o Overview
	if err := json.Unmarshal(r.do("GET", "/api/v1/overview", "").Body.Bytes(), &o); err != nil || len(o.Upstreams) != 2 {
		t.Fatalf("%+v, %v", o.Upstreams, err)
	}
	if x := o.Upstreams[0]; x.Remaining == nil || *x.Remaining != 61 || x.Limit == nil || *x.Limit != 100 || o.Upstreams[1].Remaining != nil {
		t.Errorf("%+v", o.Upstreams)
	}
	if page := r.do("GET", "/", "").Body.String(); !strings.Contains(page, "61 of 100") {
		t.Error("61 of 100 is not on the page")
	}
}

// TestFile reads a file out of a layer that is not whole here: by its spans alone.
func TestFile(t *testing.T) {
	r := newRig(t, nil)
	name := firstFile(t, r.big.Body)
	target := "/api/v1/layers/" + r.big.Digest().String() + "/file?name=" + name
	here := r.do("GET", target, "")
	if here.Code != 200 || here.Body.Len() == 0 || r.ranges.asked != 0 {
		t.Fatalf("from the whole layer: %d, %d bytes, %d asked for", here.Code, here.Body.Len(), r.ranges.asked)
	}
	head := r.do("HEAD", target, "")
	if n := strconv.Itoa(here.Body.Len()); head.Code != 200 || head.Header().Get("Content-Length") != n || here.Header().Get("Content-Length") != n || head.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %d bytes, headers %v, want those of GET: %v", head.Code, head.Body.Len(), head.Header(), here.Header())
	}
	if got := here.Header().Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; filename=") {
		t.Errorf("disposition %q", got)
	}
	if _, err := r.store.Purge(t.Context(), r.big.Digest()); err != nil {
		t.Fatal(err)
	}
	got := r.do("GET", target, "")
	if got.Code != 200 || !bytes.Equal(got.Body.Bytes(), here.Body.Bytes()) {
		t.Errorf("by its spans: %d, %d bytes, want %d", got.Code, got.Body.Len(), here.Body.Len())
	}
	if r.ranges.asked == 0 || r.ranges.asked > r.big.Row.Size/2 {
		t.Errorf("%d of %d bytes were asked for", r.ranges.asked, r.big.Row.Size)
	}
	r.ranges.by[r.big.Digest()] = bytes.Repeat([]byte{7}, len(r.big.Body))
	if got := r.do("GET", target, ""); got.Code < 500 {
		t.Errorf("from wrong bytes: %d, %q", got.Code, got.Body)
	}
	z := r.do("GET", "/api/v1/layers/"+r.big.Digest().String()+"/ztoc", "")
	if z.Code != 200 || digest.FromBytes(z.Body.Bytes()) != r.big.Row.ZTOC {
		t.Errorf("zTOC: %d, %d bytes", z.Code, z.Body.Len())
	}
}

// TestPages holds that pages come, say what they should, escape what is not theirs,
// and load nothing that is not here.
func TestPages(t *testing.T) {
	r := newRig(t, nil)
	for target, want := range map[string][]string{
		"/":                                  {"Hit ratio", "held", "429"},
		"/?range=24h":                        {"24h"},
		"/images":                            {"docker.io/library/redis:7", "linux/arm64"},
		"/images?q=nothing":                  {"No image here has"},
		"/images?offset=50&sort=pulls":       {"it has 1 image.", `href="/images?order=asc&amp;sort=pulls"`},
		"/images?offset=50&q=nothing":        {"No image here has"},
		"/images/" + r.image.String():        {"RUN &lt;b&gt;make&lt;/b&gt;", "application/spdx&#43;json", "docker pull 127.0.0.1:5000/docker.io/library/redis:7"},
		"/layers/" + r.big.Digest().String(): {"spans were read by ranges", "Checkpoints", "layer 1 of 2"},
		"/layers/" + r.small.String() + "?image=" + r.image.String(): {"a&#34;b&lt;c&gt;", "wasted below", "too-small"},
		"/jobs":                {"&lt;i&gt;disk&lt;/i&gt; full", "Retry", "<progress max=\"100\" value=\""},
		"/missing":             {"docker.io/library/redis"},
		"/setup?client=podman": {`location = &#34;127.0.0.1:5000/docker.io&#34;`},
		"/login":               {"Log in"},
	} {
		w := r.do("GET", target, "")
		body := w.Body.String()
		for _, s := range append(want, "<main") {
			if w.Code != 200 || !strings.Contains(body, s) {
				t.Errorf("%s: %d, has no %q", target, w.Code, s)
			}
		}
		for _, never := range []string{"<b>make", "<i>disk", "b<c>", " style=", "javascript:", " onclick", "http://www", "%!"} {
			if strings.Contains(body, never) {
				t.Errorf("%s has %q", target, never)
			}
		}
		if w.Header().Get("Content-Security-Policy") != policy || len(body) > 100_000 {
			t.Errorf("%s: %d bytes, policy %q", target, len(body), w.Header().Get("Content-Security-Policy"))
		}
	}
	for target, status := range map[string]int{"/nothing": 404, "/images/sha256:12": 400, "/setup?client=x": 400, "/assets/none.js": 404} {
		if w := r.do("GET", target, ""); w.Code != status {
			t.Errorf("%s: %d, want %d", target, w.Code, status)
		}
	}
	for name := range assets {
		if w := r.do("GET", assetURL(name), ""); w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %v", name, w.Code, w.Header())
		}
	}
	if w := r.do("POST", "/jobs/retry", "id=", "Content-Type", "application/x-www-form-urlencoded"); w.Code != 303 {
		t.Errorf("retry: %d", w.Code)
	}
}

// TestOthersChangeNothing: what another site's page sends is refused, and so is
// reading by another name where nobody logs in.
func TestOthersChangeNothing(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Hosts = []string{"ops.example"} })
	for _, c := range []struct {
		method, target string
		header         []string
		status         int
	}{
		{"POST", "/jobs/retry", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", "/jobs/retry", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST", "/jobs/retry", []string{"Origin", "http://evil.example"}, 403},
		{"POST", "/api/v1/jobs/retry", []string{"Origin", "null", "Content-Type", "application/json"}, 403},
		{"POST", "/api/v1/jobs/retry", []string{"Content-Type", "text/plain"}, 415},
		{"GET", "/jobs/retry", nil, 404},
		{"GET", "/", []string{"Host", "evil.example"}, 421},
		{"GET", "/api/v1/images", []string{"Host", "evil.example:5001"}, 421},
		{"GET", "/", []string{"Host", "localhost:5001"}, 200},
		{"GET", "/", []string{"Host", "[::1]:5001"}, 200},
		{"GET", "/", []string{"Host", "ops.example"}, 200},
		{"GET", "/", []string{"Host", "192.0.2.1"}, 421},
	} {
		if w := r.do(c.method, c.target, `{"id":""}`, c.header...); w.Code != c.status {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.target, c.header, w.Code, w.Body, c.status)
		}
	}
	var j Jobs
	if err := json.Unmarshal(r.do("GET", "/api/v1/jobs", "").Body.Bytes(), &j); err != nil || j.Failed != 1 {
		t.Errorf("%d jobs failed, want 1 still: %v", j.Failed, err)
	}
}
