package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// image is the manifest that a client of one platform ends at.
type image struct {
	digest   digest.Digest
	manifest v1.Manifest
}

// Annotations by which SOCI's parts name each other.
const (
	annotationIndex = "com.amazon.soci.index-digest"       // of an image manifest: its SOCI v2 index
	annotationLayer = "com.amazon.soci.image-layer-digest" // of a zTOC: its layer
)

func (w *walk) manifest(ctx context.Context) bool {
	body, d, typ, ok := w.fetchManifest(ctx, w.target.tag, strings.Join(oci.ManifestTypes, ", "))
	if !ok {
		return false
	}
	want := cmp.Or(w.o.Platform, "linux/"+runtime.GOARCH)
	p, err := oci.ParsePlatform(want)
	if err != nil {
		return w.tell(Fail, "manifest", "name a platform such as linux/amd64", "%v", err)
	}
	platform, list := "the only platform", typ == v1.MediaTypeImageIndex || typ == oci.MediaTypeDockerManifestList
	if list {
		var index v1.Index
		if err := json.Unmarshal(body, &index); err != nil {
			return w.tell(Fail, "manifest", "", "%s is no image index: %v", d, err)
		}
		entry, ok := pick(index.Manifests, p)
		if !ok {
			return w.tell(Fail, "manifest", "see the platforms with: crane manifest "+w.o.Reference, "the image has nothing for %s", want)
		}
		if body, d, _, ok = w.fetchManifest(ctx, entry.Digest.String(), entry.MediaType); !ok {
			return false
		}
		platform = want
	}
	if err := json.Unmarshal(body, &w.image.manifest); err != nil {
		return w.tell(Fail, "manifest", "", "%s is no image manifest: %v", d, err)
	}
	w.image.digest = d
	if !list && w.o.Platform != "" && !w.isFor(ctx, p) {
		return false
	}
	return w.tell(OK, "manifest", "", "%s for %s, %s", d, platform, english.Plural(len(w.image.manifest.Layers), "layer", ""))
}

// isFor reports whether an image that is in no list is for p, as its config says. One
// that says nothing is for everybody.
func (w *walk) isFor(ctx context.Context, p v1.Platform) bool {
	d := w.image.manifest.Config.Digest
	a, err := w.get(ctx, w.client, http.MethodGet, w.url("%s/blobs/%s", w.target.repo, d), nil)
	if err != nil || a.status != http.StatusOK {
		return w.tell(Fail, "manifest", "run: sociable fsck, and see the proxy's log", "the image's config %s is not to be had: status %d, %v%s", d, a.status, err, errorMessage(a.body))
	}
	var is v1.Platform
	if json.Unmarshal(a.body, &is) != nil || is.OS == "" || is.Architecture == "" || oci.SameMachine(p, is) {
		return true
	}
	return w.tell(Fail, "manifest", "name the platform that it is for, or pull an image for several", "it is for %s alone, not for %s", oci.PlatformName(is), oci.PlatformName(p))
}

// pick takes the entry that containerd would: the first of its platform.
func pick(entries []v1.Descriptor, p v1.Platform) (v1.Descriptor, bool) {
	for _, e := range entries {
		if e.Platform != nil && oci.SamePlatform(*e.Platform, p) {
			return e, true
		}
	}
	return v1.Descriptor{}, false
}

// fetchManifest asks for a manifest, HEAD first, and looks at what clients look at.
func (w *walk) fetchManifest(ctx context.Context, ref, accept string) (body []byte, d digest.Digest, typ string, ok bool) {
	url := w.url("%s/manifests/%s", w.target.repo, ref)
	header := map[string]string{"Accept": accept}
	head, err := w.get(ctx, w.client, http.MethodHead, url, header)
	if err != nil {
		return nil, "", "", w.tell(Fail, "manifest", "", "HEAD %s: %v", ref, err)
	}
	switch head.status {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, "", "", w.tell(Fail, "manifest", "check the name: the upstream's name stands before the repository, as in "+w.target.host+
			"/docker.io/library/redis:7 where docker.io is one; an upstream that is not configured is never asked (sociable config show)", "%s:%s is not known there%s", w.target.repo, ref, w.why(ctx, url, header))
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, "", "", w.tell(Fail, "manifest", "log in as somebody who may pull it (docker login "+w.target.host+"), or see auth.rules in the proxy's configuration", "%s may not be pulled%s", w.target.repo, w.why(ctx, url, header))
	default:
		return nil, "", "", w.tell(Fail, "manifest", "see /readyz?verbose on the proxy's admin address for how its upstreams do, and its log", "HEAD answered %d%s", head.status, w.why(ctx, url, header))
	}
	d = digest.Digest(head.header.Get("Docker-Content-Digest"))
	if d.Validate() != nil || head.header.Get("Content-Length") == "" {
		w.tell(Warn, "manifest", "something between drops headers of the proxy", "HEAD has no Docker-Content-Digest or no Content-Length: clients ask twice")
	}
	a, err := w.get(ctx, w.client, http.MethodGet, url, header)
	if err != nil || a.status != http.StatusOK {
		return nil, "", "", w.tell(Fail, "manifest", "", "GET %s: status %d, %v", ref, a.status, err)
	}
	if got := digest.FromBytes(a.body); d == "" {
		d = got
	} else if d.Algorithm() == digest.SHA256 && got != d {
		return nil, "", "", w.tell(Fail, "manifest", "something between changes answers of the proxy", "the bytes are %s, where %s was said", got, d)
	}
	if a.head > headerTimeout {
		w.tell(Warn, "manifest", "see why the upstream is slow; soci-snapshotter waits for 3 s", "the answer took %s to begin", a.head.Round(10e6))
	}
	return a.body, d, a.header.Get("Content-Type"), true
}

// why gives the message of a registry's error.
func (w *walk) why(ctx context.Context, url string, header map[string]string) string {
	a, err := w.get(ctx, w.client, http.MethodGet, url, header)
	if err != nil {
		return ""
	}
	return errorMessage(a.body)
}

func errorMessage(body []byte) string {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) != nil || len(doc.Errors) == 0 {
		return ""
	}
	return fmt.Sprintf(": %s: %s", doc.Errors[0].Code, doc.Errors[0].Message)
}

// canonical reports whether a client that decodes the index, encodes it again and
// stores that has the same bytes.
func canonical(body []byte) bool {
	var m struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        v1.Descriptor     `json:"config"`
		Layers        []v1.Descriptor   `json:"layers"`
		Subject       *v1.Descriptor    `json:"subject,omitempty"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
	if json.Unmarshal(body, &m) != nil {
		return false
	}
	again, err := json.Marshal(m)
	return err == nil && bytes.Equal(again, body)
}

// sameLength reports whether a header's length, if it is there, is n.
func sameLength(h http.Header, n int64) bool {
	s := h.Get("Content-Length")
	if s == "" || h.Get("Content-Encoding") != "" {
		return true
	}
	got, err := strconv.ParseInt(s, 10, 64)
	return err == nil && got == n
}
