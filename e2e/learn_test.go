package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/awslabs/soci-snapshotter/ztoc/compression"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// learned is what `sociable learn show --json` shows of a platform.
type learned struct {
	Starts  int    `json:"starts"`
	Offered int    `json:"offered"`
	Index   string `json:"index"`
	Bytes   int64  `json:"bytes"`
	Layers  []struct {
		Layer digest.Digest `json:"layer"`
		Spans []struct {
			Span int `json:"span"`
		} `json:"spans"`
	} `json:"layers"`
}

func (p *proxy) learned(t *testing.T, i realimage.Image) (x learned) {
	t.Helper()
	var list []learned
	out, err := harness.Run(t.Context(), suite.Programs.Sociable, "learn", "show", "--json", "--data", p.Data, upstream+"/"+i.Ref())
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(list) > 0 {
		x = list[0]
	}
	return x
}

// lazyStart does what a lazy client does before it mounts a layer, and mounts it.
// It gives the index that the client was offered, too.
func (p *proxy) lazyStart(t *testing.T, i realimage.Image, layer realimage.Layer) (*lazyLayer, v1.Descriptor, soci.Index) {
	t.Helper()
	a := p.get(t, referrersPath(i.Repo(), i.Digest)+"?artifactType="+url.QueryEscape(sociV1), "Accept-Encoding", "gzip")
	entries := sociEntries(decode[v1.Index](t, a))
	if len(entries) != 1 {
		t.Fatalf("SOCI entries %v, want one", entries)
	}
	body := p.get(t, manifestPath(i.Repo(), entries[0].Digest.String()), "Accept", entries[0].MediaType).body
	var index soci.Index
	if err := soci.UnmarshalIndex(body, &index); err != nil {
		t.Fatal(err)
	}
	if again, err := soci.MarshalIndex(&index); err != nil || !bytes.Equal(again, body) || digest.FromBytes(body) != entries[0].Digest {
		t.Fatalf("the index %s is not canonical, %v:\n%s", entries[0].Digest, err, body)
	}
	var zTOC []byte
	for _, b := range index.Blobs {
		got := p.get(t, blobPath(i.Repo(), b.Digest))
		if got.StatusCode != http.StatusOK || digest.FromBytes(got.body) != b.Digest || int64(len(got.body)) != b.Size {
			t.Fatalf("%s: %s, %d bytes", b.Digest, got.Status, len(got.body))
		}
		if b.MediaType != soci.SociPrefetchMediaType && b.Annotations[soci.IndexAnnotationImageLayerDigest] == layer.Digest.String() {
			zTOC = got.body
		}
	}
	return mount(t, p.Addr, upstream+"/"+i.Repo(), layer, zTOC), entries[0], index
}

// TestStartsAreLearnt starts an image three times in the way of a lazy client: from
// then on its index names what starts read, so that the official client
// understands it, and the fourth start finds those spans here, though nothing
// was left of the layer.
func TestStartsAreLearnt(t *testing.T) {
	p := startProxyWith(t, suite.Registry.URL(), link.Options{}, []string{"SOCIABLE_LEARN_WINDOW=1s", "SOCIABLE_LEARN_ROUND=1s", "SOCIABLE_LEARN_SAMPLE_PERCENT=0"})
	i := image(t, realimage.ImageBig)
	layer := suite.Set.Layers[realimage.LayerBig]
	p.pull(t, i.Name)
	plain := p.awaitIndex(t, i.Repo(), i.Digest, time.Minute)
	file := middleFile(filesOf(t, layer, 1))
	var lazy *lazyLayer
	for n := range 2 {
		var entry v1.Descriptor
		lazy, entry, _ = p.lazyStart(t, i, layer)
		if entry.Digest != plain.Digest {
			t.Fatalf("start %d is offered %s, want %s: nothing was learnt yet", n+1, entry.Digest, plain.Digest)
		}
		lazy.compareFiles(t, []tarFile{file})
		eventually(t, 20*time.Second, "a start that was noticed", func() bool { return p.learned(t, i).Starts == n+1 })
	}
	first, last := lazy.spansOf(t, file.name)
	eventually(t, 20*time.Second, "an index with what was learnt", func() bool { return p.learned(t, i).Index != "" })

	_, entry, index := p.lazyStart(t, i, layer)
	if got := p.learned(t, i); entry.Digest.String() != got.Index || entry.Digest == plain.Digest {
		t.Errorf("the third start is offered %s, want %s", entry.Digest, got.Index)
	}
	artifact := p.prefetchOf(t, i, index, layer)
	if len(artifact.PrefetchSpans) != 1 || artifact.PrefetchSpans[0].StartSpan != first || artifact.PrefetchSpans[0].EndSpan != last {
		t.Errorf("the prefetch artifact has %+v, want spans %d to %d", artifact.PrefetchSpans, first, last)
	}
	if a := p.get(t, manifestPath(i.Repo(), plain.Digest.String())); a.StatusCode != http.StatusOK {
		t.Errorf("the index without what was learnt: %s", a.Status)
	}

	p.forgetLayer(t, layer, lazy)
	p.link.Forget()
	p.lazyStart(t, i, layer)
	start, end := lazy.compressed(first, last)
	eventually(t, 20*time.Second, "spans that were brought before they are asked for", func() bool {
		m, err := p.Metrics(t.Context())
		return err == nil && m[`sociable_proxy_warmed_starts_total{result="done"}`] > 0
	})
	if got, want := p.link.Bytes(), int64(end-start); got < want || got > want+want/20 {
		t.Errorf("%d bytes came from the upstream, the spans have %d", got, want)
	}
	p.link.Forget()
	again, _, _ := p.lazyStart(t, i, layer)
	again.compareFiles(t, []tarFile{file})
	if rs := p.link.Requests(); len(rs) != 0 {
		t.Errorf("the fourth start took upstream requests, want none: %v", rs)
	}

	// Reset, the plain index is offered again, in the same place.
	if _, err := harness.Run(t.Context(), suite.Programs.Sociable, "learn", "reset", "--data", p.Data, upstream+"/"+i.Ref()); err != nil {
		t.Fatal(err)
	}
	if _, entry, _ := p.lazyStart(t, i, layer); entry.Digest != plain.Digest {
		t.Errorf("after a reset %s is offered, want %s", entry.Digest, plain.Digest)
	}
	if a := p.get(t, manifestPath(i.Repo(), entry.Digest.String())); a.StatusCode != http.StatusOK {
		t.Errorf("the index with what was learnt, that a client may have found a moment ago: %s", a.Status)
	}
}

// prefetchOf reads a layer's prefetch artifact as the official client does.
func (p *proxy) prefetchOf(t *testing.T, i realimage.Image, index soci.Index, layer realimage.Layer) *soci.PrefetchArtifact {
	t.Helper()
	for _, b := range index.Blobs {
		if b.MediaType != soci.SociPrefetchMediaType || b.Annotations[soci.IndexAnnotationImageLayerDigest] != layer.Digest.String() {
			continue
		}
		body := p.get(t, blobPath(i.Repo(), b.Digest)).body
		artifact, err := soci.UnmarshalPrefetchArtifact(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_, official, err := soci.MarshalPrefetchArtifact(artifact)
		if err != nil || official.Digest != b.Digest || official.Size != b.Size || official.MediaType != b.MediaType {
			t.Errorf("the official encoding of the artifact is %+v, %v; want %+v", official, err, b)
		}
		return artifact
	}
	t.Fatalf("the index names no prefetch artifact of %s", layer.Digest)
	return nil
}

// forgetLayer has nothing of a layer be in the store but its zTOC.
func (p *proxy) forgetLayer(t *testing.T, layer realimage.Layer, lazy *lazyLayer) {
	t.Helper()
	if err := p.Purge(t.Context(), layer.Digest.String()); err != nil {
		t.Fatal(err)
	}
	for id := compression.SpanID(0); id <= lazy.toc.MaxSpanID; id++ {
		if err := p.Purge(t.Context(), lazy.toc.SpanDigests[id].String()); err != nil {
			t.Logf("span %d: %v", id, err) // it never was here
		}
	}
}
