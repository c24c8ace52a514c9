package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// indexed is the SOCI index that a client takes.
type indexed struct {
	descriptor v1.Descriptor // from v2's annotation its digest alone
	v2         bool
	manifest   v1.Manifest
}

// referrers looks for the index in the order of clients: v2's annotation in the
// manifest, then the referrers.
func (w *walk) referrers(ctx context.Context) bool {
	if s := w.image.manifest.Annotations[annotationIndex]; s != "" {
		d, err := oci.ParseDigest(s)
		if err != nil {
			return w.tell(Fail, "index", "pull the image anew; if it stays so, it was converted wrongly", "the image names its SOCI index as %q", s)
		}
		w.found = &indexed{descriptor: v1.Descriptor{Digest: d}, v2: true}
		return w.tell(OK, "index", "", "a SOCI v2 image: its index is %s", d)
	}
	u := w.url("%s/referrers/%s?artifactType=%s", w.target.repo, w.image.digest, url.QueryEscape(oci.MediaTypeSOCIIndexV1))
	a, err := w.get(ctx, w.client, http.MethodGet, u, map[string]string{"Accept-Encoding": "gzip"})
	if err != nil {
		return w.tell(Fail, "referrers", "", "GET referrers: %v", err)
	}
	if a.head > headerTimeout {
		w.tell(Fail, "referrers", "set referrers.wait to at most 2.5s; see that nothing in front of the proxy buffers answers",
			"the answer took %s to begin; soci-snapshotter gives up after 3 s", a.head.Round(10e6))
	}
	switch typ := a.header.Get("Content-Type"); {
	case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
		return w.tell(Warn, "referrers", "ask again in a moment; clients do so by themselves", "not yet (503, Retry-After: %s)%s", a.header.Get("Retry-After"), errorMessage(a.body))
	case a.status == http.StatusNotFound:
		return w.tell(Fail, "referrers", "is it sociable that answers there? A registry without referrers has clients look for a tag instead", "the referrers API answered 404%s", errorMessage(a.body))
	case a.status != http.StatusOK:
		return w.tell(Fail, "referrers", "see the proxy's log", "the referrers API answered %d%s", a.status, errorMessage(a.body))
	case typ != v1.MediaTypeImageIndex:
		return w.tell(Fail, "referrers", "something in front of the proxy changes the header: soci-snapshotter wants it exactly, without parameters",
			"the list's Content-Type is %q, and has to be %q", typ, v1.MediaTypeImageIndex)
	}
	return w.list(ctx, a)
}

// list looks at a list of referrers as a client does.
func (w *walk) list(ctx context.Context, a answer) bool {
	var list v1.Index
	if err := json.Unmarshal(a.body, &list); err != nil {
		return w.tell(Fail, "referrers", "", "the list of referrers is no JSON that clients read: %v", err)
	}
	var soci []v1.Descriptor
	for _, d := range list.Manifests {
		if d.ArtifactType == oci.MediaTypeSOCIIndexV1 {
			soci = append(soci, d)
		}
	}
	if slices.Contains(strings.Split(a.header.Get("OCI-Filters-Applied"), ","), "artifactType") && len(soci) != len(list.Manifests) {
		return w.tell(Fail, "referrers", "report this: a client takes such a list as it is", "the list says that it is filtered, and is not")
	}
	switch len(soci) {
	case 0:
		return w.noIndex(ctx)
	case 1:
	default:
		w.tell(Warn, "referrers", "remove the others where they were pushed, if the first is not the one that you want", "%d SOCI v1 indexes are listed; clients take the first", len(soci))
	}
	w.found = &indexed{descriptor: soci[0]}
	return w.tell(OK, "referrers", "", "SOCI v1 index %s; clients ask for it with [pull_modes.soci_v1] enable = true", soci[0].Digest)
}

// noIndex says what an image without an index means, and looks for the v2 image.
func (w *walk) noIndex(ctx context.Context) bool {
	suffix := w.target.tag + "-soci"
	if !strings.Contains(w.target.tag, ":") {
		a, err := w.get(ctx, w.client, http.MethodHead, w.url("%s/manifests/%s", w.target.repo, suffix), map[string]string{"Accept": strings.Join(oci.ManifestTypes, ", ")})
		if err == nil && a.status == http.StatusOK {
			return w.tell(Warn, "referrers", "run the image as "+w.target.host+"/"+w.target.repo+":"+suffix+", or set publish: both in its rule",
				"no SOCI v1 index is listed; there is a SOCI v2 image at :%s", suffix) && false
		}
	}
	return w.tell(Fail, "referrers", "pull the image once through the proxy, or run: sociable index create IMAGE. Why a layer is left out: sociable index info IMAGE, and sociable config explain IMAGE. "+
		"A node that was told so once does not ask again for this image until its soci-snapshotter restarts", "no SOCI index is listed for %s: it is pulled whole", w.image.digest)
}

// index fetches the index and looks at what clients look at.
func (w *walk) index(ctx context.Context) bool {
	if w.found == nil {
		return false
	}
	d := w.found.descriptor
	accept := d.MediaType
	if accept == "" {
		accept = v1.MediaTypeImageManifest
	}
	a, err := w.get(ctx, w.client, http.MethodGet, w.url("%s/manifests/%s", w.target.repo, d.Digest), map[string]string{"Accept": accept})
	if err != nil || a.status != http.StatusOK {
		return w.tell(Fail, "index", "run: sociable fsck, and sociable index rm and create for the image", "the index %s is not to be had: status %d, %v%s", d.Digest, a.status, err, errorMessage(a.body))
	}
	typ, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	switch {
	case digest.FromBytes(a.body) != d.Digest:
		return w.tell(Fail, "index", "something between changes answers of the proxy", "the index's bytes are not those of %s", d.Digest)
	case typ != accept:
		return w.tell(Fail, "index", "something between changes answers of the proxy", "the index's Content-Type is %q, and was listed as %q", typ, accept)
	case !canonical(a.body):
		return w.tell(Fail, "index", "have it made anew: sociable index create IMAGE", "the index is not written as clients write it, and they refuse it under its digest")
	}
	if err := json.Unmarshal(a.body, &w.found.manifest); err != nil {
		return w.tell(Fail, "index", "", "the index is no manifest: %v", err)
	}
	if t := w.found.manifest.Config.MediaType; t != oci.MediaTypeSOCIIndexV1 && t != oci.MediaTypeSOCIIndexV2 {
		return w.tell(Fail, "index", "have it made anew: sociable index create IMAGE", "the index is of type %q, which clients don't take", t)
	}
	return w.tell(OK, "index", "", "%d of %d layers have a zTOC in it", w.tocs(), len(w.image.manifest.Layers))
}

func (w *walk) tocs() (n int) {
	for _, d := range w.found.manifest.Layers {
		if d.Annotations[annotationLayer] != "" {
			n++
		}
	}
	return n
}

// layerTable is where a layer's spans are, by its zTOC.
type layerTable struct {
	layer v1.Descriptor
	table ztoc.SpanTable
}

// tables fetches every blob of the index, since one that fails makes clients
// give up the whole index.
func (w *walk) tables(ctx context.Context) bool {
	var bytesOf int64
	for i := range w.found.manifest.Layers {
		d := &w.found.manifest.Layers[i]
		a, err := w.get(ctx, w.client, http.MethodGet, w.url("%s/blobs/%s", w.target.repo, d.Digest), nil)
		switch {
		case err != nil || a.status != http.StatusOK:
			return w.tell(Fail, "ztoc", "run: sociable fsck", "%s is not to be had, and so clients give the whole index up: status %d, %v", d.Digest, a.status, err)
		case !sameLength(a.header, d.Size) || int64(len(a.body)) != d.Size || digest.FromBytes(a.body) != d.Digest:
			return w.tell(Fail, "ztoc", "run: sociable fsck", "the bytes of %s are not those that the index names", d.Digest)
		}
		bytesOf += d.Size
		if d.Annotations[annotationLayer] == "" {
			continue // a prefetch artifact
		}
		t, err := w.tableOf(d, a.body)
		if err != nil {
			return w.tell(Fail, "ztoc", "have it made anew: sociable index create IMAGE", "zTOC %s: %v", d.Digest, err)
		}
		w.spans = append(w.spans, t)
	}
	if len(w.spans) == 0 {
		return w.tell(Fail, "ztoc", "have it made anew: sociable index create IMAGE", "the index names no zTOC")
	}
	return w.tell(OK, "ztoc", "", "%s of %s, all of a kind that clients take", english.Plural(len(w.spans), "zTOC", ""), humanize.IBytes(uint64(bytesOf)))
}

func (w *walk) tableOf(d *v1.Descriptor, body []byte) (layerTable, error) {
	z, err := ztoc.Parse(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return layerTable{}, err
	}
	if err := z.CheckClient(); err != nil {
		return layerTable{}, err
	}
	of := d.Annotations[annotationLayer]
	at := slices.IndexFunc(w.image.manifest.Layers, func(l v1.Descriptor) bool { return l.Digest.String() == of })
	if at < 0 {
		return layerTable{}, fmt.Errorf("it is of layer %s, which the image does not have", of)
	}
	layer := w.image.manifest.Layers[at]
	if z.LayerSize != layer.Size {
		return layerTable{}, fmt.Errorf("it is of a layer of %d bytes, and %s has %d", z.LayerSize, of, layer.Size)
	}
	table, err := z.Table()
	if err != nil {
		return layerTable{}, err
	}
	if table.Len() == 0 {
		return layerTable{}, errors.New("it has no span")
	}
	return layerTable{layer, table}, nil
}
