package ui

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// TestOperate: the commands about images are there for programs, too, with the
// same words.
func TestOperate(t *testing.T) {
	r := newOperated(t, func(o *Options) {
		o.Immutable = func(_ oci.Repo, tag string) bool { return tag == "7" }
	})
	none := digest.FromString("none").String()
	r.asDocumented([]apiCase{
		{"GET", "/api/v1/stats", "", 200, `"reference":"docker.io/library/redis:7"`},
		{"GET", "/api/v1/stats?name=redis:7", "", 200, `"totals":{"images":1`},
		{"GET", "/api/v1/stats?name=nginx:1", "", 404, "NAME_UNKNOWN"},
		{"GET", "/api/v1/pins", "", 200, `[]`},
		{"POST", "/api/v1/pin", `{"name":"redis:7"}`, 200, `"reference":"docker.io/library/redis:7"`},
		{"GET", "/api/v1/pins", "", 200, `[{"reference":"docker.io/library/redis:7"`},
		{"POST", "/api/v1/pin", `{"name":"nginx:1"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/pin", `{"name":""}`, 400, "name the image"},
		{"POST", "/api/v1/pin", `{"id":"redis:7"}`, 400, `unknown field \"id\"`},
		{"POST", "/api/v1/pin", `{"name":7}`, 400, "name is a number, and takes a string"},
		{"POST", "/api/v1/pin", `{"name":"redis:7"} {}`, 400, "something stands behind it"},
		{"POST", "/api/v1/purge", `{"name":"redis:7"}`, 409, "pinned as docker.io/library/redis:7; sociable unpin lets it go"},
		{"POST", "/api/v1/unpin", `{"name":"redis:7"}`, 200, `"reference":"docker.io/library/redis:7"`},
		{"POST", "/api/v1/unpin", `{"name":"redis:7"}`, 404, "nothing is pinned"},
		{"POST", "/api/v1/refresh", `{"name":"redis:7"}`, 200, r.image.String()},
		{"POST", "/api/v1/refresh", `{"name":"` + r.image.String() + `"}`, 400, "only a tag can move"},
		{"POST", "/api/v1/purge", `{"name":"redis:7"}`, 409, "--force"},
		{"POST", "/api/v1/purge", `{"name":"` + none + `"}`, 200, `"freed":0`},
		{"POST", "/api/v1/purge", `{"name":"` + none + `","block":true,"reason":"bad"}`, 200, none},
		{"POST", "/api/v1/purge", `{"name":"` + none + `","reason":"bad"}`, 400, "reason says why something is blocked, and goes with block; nothing was purged"},
		{"GET", "/api/v1/blocks", "", 200, `"reason":"bad"`},
		{"POST", "/api/v1/unblock", `{"name":"` + none + `"}`, 200, none},
		{"POST", "/api/v1/unblock", `{"name":"` + none + `"}`, 404, "nothing is blocked"},
		{"GET", "/api/v1/blocks", "", 200, `[]`},
		{"POST", "/api/v1/jobs/clear", `{"id":"none"}`, 404, "NAME_UNKNOWN"},
		{"POST", "/api/v1/jobs/clear", `{"id":""}`, 200, `"jobs":1`},
		{"POST", "/api/v1/purge", `{"name":"redis:7","force":true}`, 200, `"name":"docker.io/library/redis:7"`},
		{"GET", "/api/v1/stats?name=redis:7", "", 404, "NAME_UNKNOWN"},
		{"GET", "/api/v1/stats?name=redis:7&name=a", "", 400, "name is given 2 times: this takes one"},
		{"POST", "/api/v1/purge", `{}`, 400, "name the image"},
		{"POST", "/api/v1/warm", `{"name":"redis:7"}`, 405, "nothing is pulled"},
		{"GET", "/api/v1/uploads", "", 200, `[]`},
		{"POST", "/api/v1/uploads/cancel", `{"id":""}`, 400, "name the upload"},
		{"POST", "/api/v1/uploads/cancel", `{"id":"none"}`, 404, `no upload \"none\" is open`},
		{"POST", "/api/v1/gc", `{"dry_run":true}`, 405, "there is no gc"},
		{"POST", "/api/v1/gc", `{"dry_run":true}}`, 400, "something stands behind its end"},
		{"POST", "/api/v1/gc", `{"dry":true}`, 400, `unknown field \"dry\"`},
		{"POST", "/api/v1/gc", `{"grace_seconds":1e400}`, 400, "grace_seconds is the number 1e400, which is out of range"},
		{"POST", "/api/v1/gc", `{} {}`, 400, "something stands behind it"},
		{"POST", "/api/v1/gc", ``, 400, "the body is empty: send JSON, an object with dry_run, grace_seconds"},
		{"POST", "/api/v1/fsck", `{"repair":true}`, 405, "there is no fsck"},
		{"POST", "/api/v1/export", `{"names":["redis:7"]}`, 405, "nothing is exported"},
		{"POST", "/api/v1/export", `{"names":[]}`, 400, "name the images"},
	})
}

// TestWarm: what is asked for is passed on, and the answer is lines that are what
// the document says.
func TestWarm(t *testing.T) {
	var asked web.WarmRequest
	r := newRig(t, func(o *Options) {
		o.Warm = func(w http.ResponseWriter, _ *http.Request, q web.WarmRequest) error {
			asked = q
			out := json.NewEncoder(w)
			for _, e := range []web.WarmEvent{
				{Progress: &oci.PullProgress{Blobs: 1, OfBlobs: 2}}, {Index: &oci.IndexState{Layers: 2}},
				{Image: &web.WarmImage{Name: q.Name, Reference: "docker.io/library/redis:7", Pinned: true, Pulled: oci.PulledImage{Manifests: []oci.PulledManifest{}, Blobs: []v1.Descriptor{}}}},
			} {
				if err := out.Encode(e); err != nil {
					return err
				}
			}
			return nil
		}
	})
	w := r.do("POST", "/api/v1/warm", `{"name":"redis:7","platforms":["linux/amd64"],"referrers":true,"pin":true,"index":true}`, "Content-Type", "application/json")
	want := web.WarmRequest{Name: "redis:7", Platforms: []string{"linux/amd64"}, Referrers: true, Pin: true, Index: true}
	if w.Code != 200 || asked.Name != want.Name || len(asked.Platforms) != 1 || !asked.Referrers || !asked.Pin || !asked.Index {
		t.Fatalf("%d %s: asked for %+v, want %+v", w.Code, w.Body, asked, want)
	}
	op := load(t).Paths.Value("/warm").Post
	schema := op.Responses.Value("200").Value.Content.Get("application/x-ndjson").Schema.Value
	lines := bytes.Split(bytes.TrimSpace(w.Body.Bytes()), []byte("\n"))
	for _, line := range lines {
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.VisitJSON(v); err != nil {
			t.Errorf("%s is not what the document says: %v", line, err)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines, want 3: %s", len(lines), w.Body)
	}
	for body, status := range map[string]int{`{}`: 400, `{"name":"redis:7","lazy":true}`: 400} {
		if w := r.do("POST", "/api/v1/warm", body, "Content-Type", "application/json"); w.Code != status {
			t.Errorf("%s: %d %s, want %d", body, w.Code, w.Body, status)
		}
	}
}

// TestOthersOperateNothing: other sites' pages neither pin nor purge.
func TestOthersOperateNothing(t *testing.T) {
	r := newRig(t, nil)
	for _, x := range New(Options{}).operateRoutes() {
		if x.method != http.MethodPost {
			continue
		}
		for status, header := range map[int][]string{
			403: {"Sec-Fetch-Site", "cross-site", "Content-Type", "application/json"},
			415: {"Content-Type", "text/plain"},
			421: {"Host", "evil.example", "Content-Type", "application/json"},
		} {
			if w := r.do(x.method, "/api/v1"+x.path, `{"name":"redis:7"}`, header...); w.Code != status {
				t.Errorf("%s %v: %d %s, want %d", x.path, header, w.Code, w.Body, status)
			}
		}
	}
	if _, err := r.store.Stat(t.Context(), r.big.Digest()); err != nil {
		t.Errorf("the layer: %v", err)
	}
}
