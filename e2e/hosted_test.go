package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/e2e/harness"
	"github.com/sociable/sociable/e2e/link"
	"github.com/sociable/sociable/e2e/realimage"
)

// hosted is how clients name an image in the namespace that is there without
// any configuration.
func (p *proxy) hosted(i realimage.Image) string { return p.Addr + "/local/" + i.Ref() }

// sendBody is do with a body; path may be a Location.
func (p *proxy) sendBody(t *testing.T, method, path string, body io.Reader, header ...string) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.Addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: got, err: err}
}

// copyTo has a real program copy an image from the suite's registry to ref.
func copyTo(ctx context.Context, program string, i realimage.Image, ref string) error {
	from := suite.Registry.Addr + "/" + i.Ref()
	var err error
	switch program {
	case "skopeo":
		_, err = harness.Run(ctx, suite.Programs.Skopeo, "copy", "--insecure-policy", "--all", "--preserve-digests",
			"--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+from, "docker://"+ref)
	case "crane":
		_, err = harness.Run(ctx, suite.Programs.Crane, "copy", "--insecure", from, ref)
	}
	return err
}

// TestPushedByRealClients has real programs push, list, pull and delete.
func TestPushedByRealClients(t *testing.T) {
	for _, program := range []string{"skopeo", "crane"} {
		t.Run(program, func(t *testing.T) {
			p := startProxy(t, link.Options{})
			i := image(t, realimage.ImageToolchain)
			if err := copyTo(t.Context(), program, i, p.hosted(i)); err != nil {
				t.Fatal(err)
			}
			path := "/v2/local/" + i.Repo()
			index := p.awaitHostedIndex(t, path, i.Digest)
			zTOC := decode[v1.Manifest](t, p.get(t, path+"/manifests/"+index.Digest.String())).Layers[0].Digest
			puller := map[string]puller{"skopeo": skopeoProgram(), "crane": craneProgram()}[program]
			pullAndCompare(t, puller, p.hosted(i), i)
			tags, err := map[string]func() ([]byte, error){
				"skopeo": func() ([]byte, error) {
					return harness.Run(t.Context(), suite.Programs.Skopeo, "list-tags", "--tls-verify=false", "docker://"+p.Addr+"/local/"+i.Repo())
				},
				"crane": func() ([]byte, error) {
					return harness.Run(t.Context(), suite.Programs.Crane, "ls", "--insecure", p.Addr+"/local/"+i.Repo())
				},
			}[program]()
			if err != nil || !bytes.Contains(tags, []byte("1")) {
				t.Errorf("tags %s, %v", tags, err)
			}
			if out, err := harness.Run(t.Context(), suite.Programs.Crane, "catalog", "--insecure", p.Addr); err != nil || string(out) != "local/"+i.Repo()+"\n" {
				t.Errorf("catalog %q, %v", out, err)
			}
			if program == "skopeo" {
				_, err = harness.Run(t.Context(), suite.Programs.Skopeo, "delete", "--tls-verify=false", "docker://"+p.hosted(i))
			} else {
				_, err = harness.Run(t.Context(), suite.Programs.Crane, "delete", "--insecure", p.Addr+"/local/"+i.Repo()+"@"+i.Digest.String())
			}
			if err != nil {
				t.Error(err)
			}
			if a := p.get(t, path+"/manifests/1"); a.StatusCode != http.StatusNotFound {
				t.Errorf("after the deletion: %d", a.StatusCode)
			}
			if out, err := harness.Run(t.Context(), suite.Programs.Sociable, "gc", "--grace", "0s", "--data", p.Data); err != nil {
				t.Errorf("collect: %v: %s", err, out)
			}
			for _, gone := range []string{path + "/manifests/" + index.Digest.String(), path + "/blobs/" + zTOC.String()} {
				if a := p.get(t, gone); a.StatusCode != http.StatusNotFound {
					t.Errorf("%s, which was made here, after the deletion: %d", gone, a.StatusCode)
				}
			}
		})
	}
}

// awaitHostedIndex waits until the index of a pushed image is listed, and wants
// that no layer was read again for it.
func (p *proxy) awaitHostedIndex(t *testing.T, path string, subject digest.Digest) v1.Descriptor {
	t.Helper()
	var found []v1.Descriptor
	eventually(t, 10*time.Second, "the index of what was pushed", func() bool {
		found = sociEntries(decode[v1.Index](t, p.get(t, path+"/referrers/"+subject.String())))
		return len(found) == 1
	})
	return found[0]
}

// TestPushGoesOnAfterKills sends a gibibyte in chunks to a process that is
// killed between them.
func TestPushGoesOnAfterKills(t *testing.T) {
	const size, chunk = 1 << 30, 128 << 20
	p := startProxy(t, link.Options{})
	a := p.sendBody(t, http.MethodPost, "/v2/local/big/blobs/uploads/", nil)
	loc := a.Header.Get("Location")
	src := rand.NewChaCha8([32]byte{1})
	sum := sha256.New()
	for off := 0; off < size; off += chunk {
		body := io.TeeReader(io.LimitReader(src, chunk), sum)
		a = p.sendBody(t, http.MethodPatch, loc, body, "Content-Range", fmt.Sprintf("%d-%d", off, off+chunk-1))
		if want := fmt.Sprintf("0-%d", off+chunk-1); a.StatusCode != http.StatusAccepted || a.Header.Get("Range") != want {
			t.Fatalf("chunk at %d: %d %s, Range %q, want %q", off, a.StatusCode, a.body, a.Header.Get("Range"), want)
		}
		loc = a.Header.Get("Location")
		if off/chunk%3 == 1 {
			p.Kill()
			p.start(t)
			if a := p.get(t, loc); a.StatusCode != http.StatusNoContent || a.Header.Get("Range") != fmt.Sprintf("0-%d", off+chunk-1) {
				t.Fatalf("after a kill: %d, Range %q", a.StatusCode, a.Header.Get("Range"))
			}
		}
	}
	d := digest.NewDigest(digest.SHA256, sum)
	if a = p.sendBody(t, http.MethodPut, loc+"?digest="+d.String(), nil); a.StatusCode != http.StatusCreated {
		t.Fatalf("end: %d %s", a.StatusCode, a.body)
	}
	p.Kill() // what was acknowledged is there
	p.start(t)
	if _, err := p.download(t.Context(), a.Header.Get("Location"), d); err != nil {
		t.Error(err)
	}
}

// TestManyTags pushes ten thousand tags, and lists them in pages.
func TestManyTags(t *testing.T) {
	const tags = 10_000
	p := startProxy(t, link.Options{})
	config := []byte("{}")
	d := digest.FromBytes(config)
	p.sendBody(t, http.MethodPost, "/v2/local/many/blobs/uploads/?digest="+d.String(), bytes.NewReader(config))
	manifest := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`,
		v1.MediaTypeImageManifest, d))
	subject := digest.FromBytes(manifest)
	var crowd sync.WaitGroup
	for n := range 16 {
		crowd.Go(func() {
			for first := n * 100; first < tags; first += 1600 {
				query := ""
				for i := range 100 {
					query += fmt.Sprintf("&tag=t%05d", first+i)
				}
				if a := p.sendBody(t, http.MethodPut, "/v2/local/many/manifests/"+subject.String()+"?"+query[1:], bytes.NewReader(manifest)); a.StatusCode != http.StatusCreated {
					t.Errorf("put: %d %s", a.StatusCode, a.body)
				}
			}
		})
	}
	crowd.Wait()
	var all []string
	for next := "/v2/local/many/tags/list?n=997"; next != ""; {
		a := p.get(t, next)
		var list struct{ Tags []string }
		if err := json.Unmarshal(a.body, &list); err != nil || len(list.Tags) > 997 {
			t.Fatalf("%s: %d tags, %v", next, len(list.Tags), err)
		}
		all = append(all, list.Tags...)
		next, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
	}
	if len(all) != tags || !slices.IsSorted(all) {
		t.Errorf("%d tags listed, want %d in order", len(all), tags)
	}
	if rss, err := p.PeakRSS(); err != nil || rss > 150<<20 {
		t.Errorf("memory peak %d MiB, %v", rss>>20, err)
	}
}
