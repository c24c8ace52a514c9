package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// tagged is a store with tags, each of which leads to the digest of its own name.
func tagged(t *testing.T, names ...string) *storage.Store {
	t.Helper()
	s := storagetest.NewStore(t)
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		for _, name := range names {
			i := strings.LastIndexByte(name, ':')
			repo, err := oci.ParseRepo(name[:i])
			if err != nil {
				return err
			}
			d := digest.FromString(name)
			err = errors.Join(
				tx.PutTag(storage.TagRow{Repo: repo, Tag: name[i+1:], Digest: d, Checked: time.Now()}), tx.PutRight(repo, d),
				tx.PutManifest(storage.ManifestRow{Digest: d, Manifest: oci.Manifest{MediaType: v1.MediaTypeImageManifest}}),
			)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResolve(t *testing.T) {
	const (
		redis7   = "docker.io/library/redis:7"
		redis    = "docker.io/library/redis:latest"
		quay     = "quay.io/acme/redis:7"
		app      = "ghcr.io/acme/app:1"
		appThere = "mirror/acme/app:1"
		port     = "127.0.0.1:5005/a:1"
		library  = "mirror/library/redis:7"
	)
	s := tagged(t, redis7, redis, quay, app, appThere, port)
	both := tagged(t, redis7, library)
	at := func(name string) string {
		return name[:strings.LastIndexByte(name, ':')] + "@" + digest.FromString(name).String()
	}
	for _, c := range []struct {
		store *storage.Store
		word  string
		want  string // canonical
		err   error
	}{
		{s, redis7, redis7, nil},
		{s, "redis:7", redis7, nil},
		{s, "redis", redis, nil},
		{s, "library/redis:7", redis7, nil},
		{s, "docker.io/redis:7", redis7, nil},
		{s, "127.0.0.1:5000/docker.io/library/redis:7", redis7, nil},
		{s, "localhost/redis:7", redis7, nil},
		{s, "registry.example:443/redis:7", redis7, nil},
		{s, "acme/redis:7", quay, nil},
		{s, "proxy.example/docker.io/library/redis:7", redis7, nil},
		{s, "ghcr.io/redis:7", "", storage.ErrNotFound},
		{s, "acme/app:1", "", errAmbiguous},
		{s, "mirror/acme/app:1", appThere, nil},
		{s, "localhost:5000/ghcr.io/acme/app:1", app, nil},
		{s, "127.0.0.1:5005/a:1", port, nil},
		{both, "redis:7", "", errAmbiguous},
		{both, "mirror/redis:7", library, nil},
		{both, "docker.io/redis:7", redis7, nil},
		{s, at(app), at(app), nil},
		{s, "acme/" + at("app:1")[:3] + "@" + digest.FromString(app).String(), at(app), nil},
		{s, "redis@" + digest.FromString(app).String(), "", storage.ErrNotFound},
		{s, digest.FromString(quay).String(), at(quay), nil},
		{s, digest.FromString("none").String(), "", storage.ErrNotFound},
		{s, "redis:8", "", storage.ErrNotFound},
		{s, "redi:7", "", storage.ErrNotFound},
		{s, "7", "", storage.ErrNotFound},
	} {
		x, err := resolve(t.Context(), c.store, c.word)
		if x.Reference != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v, want %q, %v", c.word, x.Reference, err, c.want, c.err)
		}
		if c.want != "" && !strings.Contains(c.want, "@") && x.Digest != digest.FromString(c.want) {
			t.Errorf("%s leads to %s", c.word, x.Digest)
		}
		if c.want != "" && !means(c.word, c.want) && digest.Digest(c.word).Validate() != nil {
			t.Errorf("%s does not mean %s", c.word, c.want)
		}
	}
	for _, word := range []string{"", ":", "a:", "@", "a@", "a@sha256:1", "A", "a//b", "../a", "a:b:c", "a:" + strings.Repeat("b", 200), "a b", "/"} {
		if x, err := resolve(t.Context(), s, word); err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%q is taken for a name: %+v, %v", word, x, err)
		}
	}
	if means("redis:7", "docker.io/library/redis:8") || means("redis", redis7) || means("ghcr.io/redis:7", redis7) {
		t.Error("a name means what it does not")
	}
}

func FuzzSpell(f *testing.F) {
	for _, s := range []string{"redis:7", "127.0.0.1:5000/a/b@" + digest.FromString("x").String(), "a@b", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		s, err := spell(word)
		if err != nil {
			return
		}
		if len(s.names) == 0 || (s.tag == "") == (s.digest == "") {
			t.Fatalf("%q: %+v", word, s)
		}
	})
}

func TestRefresh(t *testing.T) {
	s := tagged(t, "docker.io/library/redis:7")
	got, err := Refresh(t.Context(), s, "redis:7")
	if want := (Tag{"docker.io/library/redis:7", digest.FromString("docker.io/library/redis:7")}); err != nil || got != want {
		t.Errorf("Refresh: %+v, %v, want %+v", got, err, want)
	}
	err = s.View(t.Context(), func(tx storage.Tx) error {
		row, err := tx.Tag(oci.Repo{Upstream: "docker.io", Name: "library/redis"}, "7")
		if !row.Checked.IsZero() {
			t.Errorf("the tag counts as checked at %v", row.Checked)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := Refresh(t.Context(), s, digest.FromString("docker.io/library/redis:7").String()); !errors.Is(err, errNoTag) {
		t.Errorf("Refresh of a digest: %v", err)
	}
	err = s.Update(t.Context(), func(tx storage.Tx) error { // as if it had been pushed
		return tx.PutContent(storage.ContentRow{Repo: oci.Repo{Upstream: "docker.io", Name: "library/redis"}, Digest: got.Digest, Manifest: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Refresh(t.Context(), s, "redis:7"); !errors.Is(err, storage.ErrHosted) {
		t.Errorf("Refresh of what was pushed here: %v", err)
	}
}

func TestPins(t *testing.T) {
	s := tagged(t, "docker.io/library/redis:7", "quay.io/library/redis:7", "ghcr.io/acme/app:1")
	if _, err := PinImage(t.Context(), s, "redis:7"); !errors.Is(err, errAmbiguous) {
		t.Errorf("PinImage of two: %v", err)
	}
	for _, name := range []string{"docker.io/redis:7", "quay.io/redis:7", "acme/app:1"} {
		if p, err := PinImage(t.Context(), s, name); err != nil || p.Blobs != 1 || p.Here != 0 {
			t.Errorf("PinImage %s: %+v, %v", name, p, err)
		}
	}
	if _, err := Unpin(t.Context(), s, "redis:7"); !errors.Is(err, errAmbiguous) {
		t.Errorf("Unpin of two: %v", err)
	}
	// the tag is gone, the pin is not
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		return tx.DeleteTag(oci.Repo{Upstream: "ghcr.io", Name: "acme/app"}, "1")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app:1", "acme/app"} {
		if _, err := Unpin(t.Context(), s, name); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Unpin %s: %v, want ErrNotFound", name, err)
		}
	}
	for _, name := range []string{"acme/app:1", "quay.io/library/redis:7", digest.FromString("docker.io/library/redis:7").String()} {
		if _, err := Unpin(t.Context(), s, name); err != nil {
			t.Errorf("Unpin %s: %v", name, err)
		}
	}
	if list, err := Pins(t.Context(), s); err != nil || len(list) > 0 {
		t.Errorf("pins that are left: %v, %v", list, err)
	}
}

// TestPinsCountWhatIsNotFiled: what was just pulled is here, though its row is not.
func TestPinsCountWhatIsNotFiled(t *testing.T) {
	const name = "docker.io/library/redis:7"
	s := tagged(t, name)
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(name))
	if err == nil {
		err = w.Commit(t.Context(), storage.BlobRow{Digest: digest.FromString(name), Kind: storage.KindManifest}, storage.Cached)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if p, err := PinImage(t.Context(), s, name); err != nil || p.Here != 1 || p.Bytes != int64(len(name)) {
		t.Errorf("PinImage: %+v, %v", p, err)
	}
	if list, err := Pins(t.Context(), s); err != nil || len(list) != 1 || list[0].Here != 1 {
		t.Errorf("Pins: %+v, %v", list, err)
	}
}

// TestCheckStream reads what a check tells, line by line.
func TestCheckStream(t *testing.T) {
	dir := t.TempDir()
	s := storagetest.Start(t, dir, storage.Options{})
	body := storagetest.Bytes("x", 1000)
	d := digest.FromBytes(body)
	if err := s.Put(t.Context(), storage.BlobRow{Digest: d, Kind: storage.KindBlob}, body, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())); err != nil {
		t.Fatal(err)
	}
	web := New(Options{Store: s, Gatherer: prometheus.NewRegistry()})
	srv := httptest.NewServer(web.Local(t.Context()))
	defer srv.Close()
	resp, err := srv.Client().Post(srv.URL+"/api/v1/check", "application/json", strings.NewReader(`{"repair":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var kinds []string
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var e CheckEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		switch {
		case e.Problem != nil:
			kinds = append(kinds, string(e.Problem.Kind))
		case e.Report != nil:
			kinds = append(kinds, "report "+e.Error)
			if e.Report.Problems != 1 || e.Report.Repaired != 1 {
				t.Errorf("report %+v", e.Report)
			}
		}
	}
	if !slices.Equal(kinds, []string{"missing", "report "}) || resp.StatusCode != 200 {
		t.Errorf("%s: %v", resp.Status, kinds)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	status, answer := get(t, web.Local(ended), "POST", "/api/v1/check", `{}`)
	if status != 200 || !strings.Contains(answer, `context canceled"}`) {
		t.Errorf("when the server ends: %d %s", status, answer)
	}
}
