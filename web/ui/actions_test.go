package ui

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// newOperated is a rig whose image a tag leads to, as after a pull.
func newOperated(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := newRig(t, change)
	err := r.store.Update(t.Context(), func(tx storage.Tx) error {
		if err := tx.PutRight(redis, r.image); err != nil {
			return err
		}
		return tx.PutTag(storage.TagRow{Repo: redis, Tag: "7", Digest: r.image, Checked: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// press sends the form of a button of the image's page, and goes where that leads.
func (r *rig) press(do, form string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	w := r.do("POST", "/images/"+r.image.String()+"/"+do, form, append(header, "Content-Type", "application/x-www-form-urlencoded")...)
	if w.Code == http.StatusSeeOther {
		return r.do("GET", w.Header().Get("Location"), "", "Cookie", cookieOf(w))
	}
	return w
}

// cookieOf is what a browser sends after such an answer.
func cookieOf(w *httptest.ResponseRecorder) string {
	pair, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	return pair
}

// TestButtons: what the Image page offers to do is done, and said; what can't be
// done is said there, too.
func TestButtons(t *testing.T) {
	warmed, fault := "", ""
	r := newOperated(t, func(o *Options) {
		o.Immutable = func(_ oci.Repo, tag string) bool { return tag == "7" }
		o.Warm = func(w http.ResponseWriter, _ *http.Request, q web.WarmRequest) error {
			warmed = q.Name
			out := json.NewEncoder(w)
			if err := out.Encode(web.WarmEvent{Progress: &oci.PullProgress{Blobs: 1}}); err != nil || fault != "" {
				return out.Encode(web.WarmEvent{Error: fault})
			}
			return out.Encode(web.WarmEvent{Image: &web.WarmImage{Name: q.Name}})
		}
	})
	page := "/images/" + r.image.String()
	for _, c := range []struct {
		do, form string
		status   int
		want     string
		never    string
	}{
		{"unpin", "name=redis:7", 404, "nothing is pinned", `/unpin"`},
		{"pin", "", 200, "Pinned: it is never evicted", `/pin"`},
		{"purge", "", 409, "is pinned as docker.io/library/redis:7", "Purged"},
		{"unpin", "name=docker.io/library/redis:7", 200, "Unpinned", `/unpin"`},
		{"refresh", "", 200, "asks its upstream", "role=\"alert\" data-fault"},
		{"warm", "", 200, "All of it is here", "role=\"alert\" data-fault"},
		{"purge", "", 409, "though a tag of it is immutable", "Purged"},
	} {
		w := r.press(c.do, c.form)
		if body := w.Body.String(); w.Code != c.status || !strings.Contains(body, c.want) || strings.Contains(body, c.never) {
			t.Fatalf("%s %s: %d, want %d with %q and without %q: %s", c.do, c.form, w.Code, c.status, c.want, c.never, body)
		}
	}
	if want := redis.String() + "@" + r.image.String(); warmed != want {
		t.Errorf("warmed %q, want %q: no other image", warmed, want)
	}
	if fault = "the upstream is away"; !strings.Contains(r.press("warm", "").Body.String(), fault) {
		t.Error("that it was not warmed is not said")
	}
	w := r.press("purge", "force=1&block=1")
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "Purged "+short(r.image)) || !strings.Contains(body, "kept out") || !strings.Contains(body, "<h1>Images") {
		t.Errorf("purge: %d %s", w.Code, body)
	}
	if w := r.do("GET", page, ""); w.Code != 404 {
		t.Errorf("the page of what was purged: %d", w.Code)
	}
	w = r.press("pin", "") // in a tab that shows it still
	if body := w.Body.String(); w.Code != 404 || !strings.Contains(body, "data-fault>This image is no longer here") || !strings.Contains(body, `<p><a href="/images">Images</a>`) {
		t.Errorf("pin what was purged: %d %s", w.Code, body)
	}
}

// TestPinsAreShown: an image that is pinned by two names can be let go by each.
func TestPinsAreShown(t *testing.T) {
	r := newOperated(t, nil)
	for _, name := range []string{"redis:7", "redis@" + r.image.String()} {
		if _, err := web.PinImage(t.Context(), r.store, name); err != nil {
			t.Fatal(err)
		}
	}
	page := r.do("GET", "/images/"+r.image.String(), "").Body.String()
	for _, want := range []string{`value="docker.io/library/redis:7"`, `value="docker.io/library/redis@` + r.image.String(), "Unpin docker.io"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
	if api := r.do("GET", "/api/v1/images/"+r.image.String(), "").Body.String(); !strings.Contains(api, `"pins":["docker.io/library/redis:7","docker.io/library/redis@`) {
		t.Errorf("the API: %s", api)
	}
}

// TestPushedIsNowhereElse: of an image that was pushed here it is said before a purge
// that nothing brings it back, and no upstream is there to be asked for its tag.
func TestPushedIsNowhereElse(t *testing.T) {
	for _, hosted := range []bool{true, false} {
		r := newOperated(t, func(o *Options) {
			o.Upstreams = func() []Upstream { return []Upstream{{Name: "docker.io", Hosted: hosted}} }
		})
		page := r.do("GET", "/images/"+r.image.String(), "").Body.String()
		if strings.Contains(page, "no upstream can bring it back") != hosted || strings.Contains(page, `/refresh"`) == hosted {
			t.Errorf("hosted %t: %s", hosted, page)
		}
	}
}

// TestOthersPressNothing: other sites' pages press no button, nor does a link.
func TestOthersPressNothing(t *testing.T) {
	r := newOperated(t, nil)
	for do := range actions {
		for status, header := range map[int][]string{403: {"Sec-Fetch-Site", "cross-site"}, 421: {"Host", "evil.example"}} {
			if w := r.press(do, "", header...); w.Code != status {
				t.Errorf("%s %v: %d, want %d", do, header, w.Code, status)
			}
		}
		if w := r.do("GET", "/images/"+r.image.String()+"/"+do, ""); w.Code != 404 {
			t.Errorf("GET %s: %d", do, w.Code)
		}
	}
	if page := r.do("GET", "/images/"+r.image.String(), "").Body.String(); !strings.Contains(page, `/pin"`) {
		t.Errorf("it is pinned, or gone: %s", page)
	}
}

// TestLayerNamesImagesByTag: an image that a tag leads to by way of an index has
// that name at its layers, too, as it has in the list.
func TestLayerNamesImagesByTag(t *testing.T) {
	r := newRig(t, nil)
	index := digest.FromString("index of platforms")
	err := r.store.Update(t.Context(), func(tx storage.Tx) error {
		if err := tx.DeleteTag(redis, "7"); err != nil {
			return err
		}
		if err := tx.PutManifest(storage.ManifestRow{Digest: index, Manifest: oci.Manifest{
			MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{{MediaType: v1.MediaTypeImageManifest, Digest: r.image}},
		}}); err != nil {
			return err
		}
		return tx.PutTag(storage.TagRow{Repo: redis, Tag: "7.2", Digest: index})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{r.big.Digest(), r.small} {
		if got := r.do("GET", "/api/v1/layers/"+d.String(), "").Body.String(); !strings.Contains(got, `"reference":"docker.io/library/redis:7.2"`) {
			t.Errorf("%s: %s", d, got)
		}
	}
}
