package e2e

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// The tests here end the process by SIGKILL, start it again over the same data,
// and want it to serve, to go on where it was, and never to serve a wrong byte.

// TestKillInAFill: what was received and synced is not fetched again.
func TestKillInAFill(t *testing.T) {
	p := startProxy(t, link.Options{BytesPerSecond: 60e6})
	i := image(t, realimage.ImageToolchain)
	layer := suite.Set.Layers[realimage.LayerGo]
	path := blobPath(i.Repo(), layer.Digest)
	for round, until := range []int64{layer.Size / 3, layer.Size / 3 * 2} {
		ended := p.fetchInBackground(t, path, layer.Digest)
		eventually(t, 30*time.Second, "enough bytes from the upstream", func() bool {
			return p.link.Bytes(link.Blob(layer.Digest)) > until/int64(round+1)
		})
		p.Kill()
		if err := <-ended; err == nil || errors.Is(err, errWrongBody) {
			t.Errorf("the client of the killed process got %v, want a short body", err)
		}
		p.start(t)
		p.link.Forget()
	}
	if _, err := p.download(t.Context(), path, layer.Digest); err != nil {
		t.Fatal(err)
	}
	rs := p.link.Requests(link.Method(http.MethodGet), link.Blob(layer.Digest))
	if len(rs) != 1 || rs[0].Range == "" || rs[0].Sent >= layer.Size*9/10 {
		t.Errorf("after two kills, two thirds of %d bytes through: %v; want the rest alone fetched, by range", layer.Size, rs)
	}
	p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType)
	p.pull(t, i.Name)
	p.checkIndex(t, i)
}

// fetchInBackground downloads a blob and tells how that ended.
func (p *proxy) fetchInBackground(t *testing.T, path string, d digest.Digest) <-chan error {
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() {
		_, err := p.download(ctx, path, d)
		ended <- err
	}()
	return ended
}

// checkIndex waits for an image's index, which must be the official one.
func (p *proxy) checkIndex(t *testing.T, i realimage.Image) {
	t.Helper()
	want, _, err := officialIndex(t, i, platformOf(i))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.awaitIndex(t, i.Repo(), i.Digest, time.Minute); got.Digest != want.Digest {
		t.Errorf("the index of %s is %s, want %s", i.Name, got.Digest, want.Digest)
	}
}

// TestKillInAnIndexBuild kills at many moments around a layer's last byte. The
// next pull finishes the index; what had been filed is not fetched again.
func TestKillInAnIndexBuild(t *testing.T) {
	const rounds = 15
	i := image(t, realimage.ImageSmall)
	layer := i.Layers[0]
	path := blobPath(i.Repo(), layer.Digest)
	for round := range rounds {
		p := startProxy(t, link.Options{BytesPerSecond: 300e6})
		if a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType); a.StatusCode != http.StatusOK {
			t.Fatalf("manifest: %s", a.Status)
		}
		ended := p.fetchInBackground(t, path, layer.Digest)
		if inStream := round%3 == 0; inStream {
			eventually(t, 10*time.Second, "some of the layer", func() bool {
				return p.link.Bytes(link.Blob(layer.Digest)) > layer.Size*int64(round+1)/(rounds+1)
			})
			p.Kill()
			<-ended
		} else {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			pause(t, time.Duration(round)*8*time.Millisecond)
			p.Kill()
		}
		p.start(t)
		// A pull begins with the manifest, of which the row may have been lost as well: what
		// is only cached is filed a moment after it was served.
		if a := p.get(t, manifestPath(i.Repo(), "1"), "Accept", i.MediaType); a.StatusCode != http.StatusOK {
			t.Fatalf("round %d: manifest: %s", round, a.Status)
		}
		if _, err := p.download(t.Context(), path, layer.Digest); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p.checkIndex(t, i)
		if sum := p.link.Bytes(link.Method(http.MethodGet), link.Blob(layer.Digest)); sum > 2*layer.Size {
			t.Errorf("round %d: %d bytes from the upstream for a layer of %d", round, sum, layer.Size)
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestIndexIsFinishedAfterAKill: once every layer is filed, the next start makes
// the index without a client and without the upstream. Nothing outside tells
// when a layer is filed, a little after its last byte; so moments are tried
// until one lies between that and the index.
func TestIndexIsFinishedAfterAKill(t *testing.T) {
	i := image(t, realimage.ImageBig)
	wait := 100 * time.Millisecond
	for range 8 {
		p := startProxy(t, link.Options{})
		p.pull(t, i.Name)
		pause(t, wait)
		list, err := p.Indexes(t.Context())
		p.Kill()
		if err != nil || len(list) != 1 {
			t.Fatalf("index list: %+v, %v", list, err)
		}
		if err := p.link.Down(); err != nil {
			t.Fatal(err)
		}
		p.start(t)
		filed := true
		for _, d := range i.Blobs() {
			_, err := p.download(t.Context(), blobPath(i.Repo(), d), d)
			filed = filed && err == nil
		}
		t.Logf("killed %v after the last byte: every layer filed %v, index %q", wait, filed, list[0].Index)
		switch {
		case !filed:
			wait += wait / 2
			continue
		case list[0].Index != "":
			wait -= wait / 3
			continue
		}
		p.checkIndex(t, i)
		return
	}
	t.Error("at no moment were the layers filed and the index not made")
}

// pause lets d pass: the moment of a kill is what is tested.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}
