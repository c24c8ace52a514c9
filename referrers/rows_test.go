package referrers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
)

var errAway = &upstream.UnreachableError{Err: errors.New("connection refused")}

func digests(ds []v1.Descriptor) []string {
	out := []string{}
	for _, d := range ds {
		out = append(out, d.Digest.Encoded()[:8])
	}
	return out
}

// TestListIsKept: what an upstream listed is asked for again after its TTL
// only, outlives a restart, and is listed while the upstream is away.
func TestListIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t)
		// The upstream's first SOCI index stays the one that is listed.
		u := &scripted{list: []v1.Descriptor{entry(3, signature), entry(8, oci.MediaTypeSOCIIndexV1), entry(7, oci.MediaTypeSOCIIndexV1), entry(1, signature)}}
		const ttl = time.Minute
		start := func() *Referrers { return New(Options{Store: db, Upstream: u.ask, TTL: ttl}) }
		s := start()
		want := []string{"00000008", "00000001", "00000003"}
		for _, step := range []struct {
			name    string
			wait    time.Duration
			restart bool
			err     error
			calls   int32
			warned  bool
		}{
			{name: "first", calls: 1},
			{name: "again", wait: ttl - time.Second, calls: 1},
			{name: "after a restart", restart: true, calls: 1},
			{name: "away after the TTL", wait: time.Second, err: errAway, calls: 2, warned: true},
			{name: "not asked for a while", wait: 2 * time.Second, err: errAway, calls: 2, warned: true},
			{name: "asked again, still away", wait: holdOff, err: errAway, calls: 3, warned: true},
			{name: "away at a restart", wait: 30 * 24 * time.Hour, restart: true, err: errAway, calls: 4, warned: true},
			{name: "back", wait: holdOff, calls: 5},
		} {
			time.Sleep(step.wait)
			if step.restart {
				s = start()
			}
			u.err = step.err
			resp := get(t, s, http.MethodGet, target)
			if diff := cmp.Diff(want, digests(decode(t, resp).Manifests)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.name, diff)
			}
			if got := u.calls.Load(); got != step.calls {
				t.Errorf("%s: %d questions, want %d", step.name, got, step.calls)
			}
			if got := strings.HasPrefix(resp.Header.Get("Warning"), `299 - "stale: `); got != step.warned {
				t.Errorf("%s: Warning %q", step.name, resp.Header.Get("Warning"))
			}
		}
		u.list = nil // all were deleted there
		time.Sleep(ttl)
		if got := decode(t, get(t, s, http.MethodGet, target)).Manifests; len(got) != 0 {
			t.Errorf("after all were deleted: %v", got)
		}
		if rows := keptRows(t, db); rows != 0 {
			t.Errorf("%d lists are kept, want none: it is empty", rows)
		}
	})
}

func keptRows(t *testing.T, db *bolt.DB) (n int) {
	t.Helper()
	err := db.View(t.Context(), func(tx storage.Tx) error {
		return tx.AllUpstreamReferrers(func(storage.UpstreamReferrersRow) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestUnchangedCostsNoWrite: a list that is found unchanged, and one that is
// empty, is not filed again.
func TestUnchangedCostsNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			list []v1.Descriptor
			want int
		}{"some": {[]v1.Descriptor{entry(1, signature)}, 1}, "none": {nil, 0}} {
			db := &counting{DB: newStore(t)}
			s := New(Options{Store: db, Upstream: answers(c.list...), TTL: time.Second})
			for range 20 {
				get(t, s, http.MethodGet, target)
				time.Sleep(2 * time.Second)
			}
			if db.updates != c.want {
				t.Errorf("%s: %d writes, want %d", name, db.updates, c.want)
			}
		}
	})
}

type counting struct {
	*bolt.DB
	updates int
}

func (c *counting) Update(ctx context.Context, fn func(storage.Tx) error) error {
	c.updates++
	return c.DB.Update(ctx, fn)
}

var (
	hostedRepo  = oci.Repo{Upstream: "local", Name: "app"}
	hostedOther = oci.Repo{Upstream: "local", Name: "other"}
)

// newHosted has a signature and a SOCI index pushed to hostedRepo, another one
// to hostedOther, and a SOCI index made here.
func newHosted(t *testing.T, repos ...oci.Repo) *bolt.DB {
	db := newStore(t, entry(9, oci.MediaTypeSOCIIndexV1))
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for _, row := range []storage.ReferrerRow{
			{Repo: hostedRepo, Subject: subject, Descriptor: entry(4, signature)},
			{Repo: hostedRepo, Subject: subject, Descriptor: entry(5, oci.MediaTypeSOCIIndexV1)},
			{Repo: hostedOther, Subject: subject, Descriptor: entry(4, signature)},
			{Repo: hostedOther, Subject: subject, Descriptor: entry(6, "application/sbom")},
		} {
			if err := tx.PutReferrer(row); err != nil {
				return err
			}
		}
		for _, r := range repos {
			if err := tx.PutRight(r, subject); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func hosted(db Store) *Referrers {
	return New(Options{
		Store: db, Hosted: func(up string) bool { return up == "local" },
		Upstream: answers(entry(1, signature)), // of another upstream: never asked about local
	})
}

func getIn(t *testing.T, s *Referrers, repo oci.Repo, target string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	if err := s.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil), repo, subject); err != nil {
		t.Fatal(err)
	}
	return w.Result()
}

// TestHosted: a repository lists what was pushed to it, and what was made here
// if it has the subject.
func TestHosted(t *testing.T) {
	s := hosted(newHosted(t, hostedRepo))
	for _, c := range []struct {
		repo   oci.Repo
		target string
		want   []string
	}{
		{hostedRepo, target, []string{"00000009", "00000004"}},
		{hostedRepo, filtered(oci.MediaTypeSOCIIndexV1), []string{"00000009"}},
		{hostedRepo, filtered(signature), []string{"00000004"}},
		{hostedOther, target, []string{"00000004", "00000006"}}, // has not got the subject
		{repo, target, []string{"00000009", "00000001"}},        // pulled through: nothing that was pushed
	} {
		got := digests(decode(t, getIn(t, s, c.repo, c.target)).Manifests)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.repo, c.target, diff)
		}
	}
}

// TestFallbackTagPushed: what a client filed under the tag is listed, under the
// artifact type of its manifest where the client left that out.
func TestFallbackTagPushed(t *testing.T) {
	db := newHosted(t, hostedRepo)
	untyped := entry(2, "")
	index := storage.ManifestRow{Digest: digest.FromString("index"), Manifest: oci.Manifest{
		MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{entry(4, signature), entry(7, "application/sbom"), untyped},
	}}
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(
			tx.PutManifest(index),
			tx.PutManifest(storage.ManifestRow{Digest: untyped.Digest, Manifest: oci.Manifest{ArtifactType: signature}}),
			tx.PutTag(storage.TagRow{Repo: hostedRepo, Tag: "sha256-" + subject.Encoded(), Digest: index.Digest}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	s := hosted(db)
	for target, want := range map[string][]string{
		target:                               {"00000009", "00000002", "00000004", "00000007"},
		filtered(signature):                  {"00000002", "00000004"},
		filtered(oci.MediaTypeSOCIIndexV1):   {"00000009"},
		filtered("application/no such type"): {},
	} {
		if diff := cmp.Diff(want, digests(decode(t, getIn(t, s, hostedRepo, target)).Manifests)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
}

func TestFallbackTagServed(t *testing.T) {
	s := hosted(newHosted(t, hostedRepo))
	w := httptest.NewRecorder()
	if err := s.ServeTag(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), hostedRepo, subject); err != nil {
		t.Fatal(err)
	}
	if got, want := w.Header().Get("Docker-Content-Digest"), digest.FromBytes(w.Body.Bytes()).String(); got != want {
		t.Errorf("Docker-Content-Digest %q, want the body's %q", got, want)
	}
	if diff := cmp.Diff([]string{"00000009", "00000004"}, digests(decode(t, w.Result()).Manifests)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	none := digest.FromString("nothing refers to it")
	err := s.ServeTag(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), hostedRepo, none)
	if !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("tag of a subject without referrers: %v, want ErrNotFound", err)
	}
}

// TestManyInPages lists 5,000 in pages of 500, each once, with no more memory
// than a page takes.
func TestManyInPages(t *testing.T) {
	const n, page = 5000, 500
	db := newHosted(t, hostedRepo)
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for i := range n {
			d := entry(1000+i, signature)
			d.Annotations = map[string]string{"org.opencontainers.image.created": "2026-01-01T00:00:00Z"}
			if err := tx.PutReferrer(storage.ReferrerRow{Repo: hostedRepo, Subject: subject, Descriptor: d}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s := hosted(db)
	var got []string
	pages := 0
	for next := fmt.Sprintf("%s?ns=docker.io&n=%d", target, page); next != ""; pages++ {
		resp := getIn(t, s, hostedRepo, next)
		list := decode(t, resp).Manifests
		if len(list) > page {
			t.Fatalf("page %d has %d entries, want %d at most", pages, len(list), page)
		}
		got = append(got, digests(list)...)
		next = follow(t, resp.Header.Get("Link"))
	}
	if len(got) != n+2 || pages != n/page+1 || got[0] != "00000009" || !slices.IsSorted(got[1:]) {
		t.Errorf("%d entries on %d pages, first %s; want %d on %d, ours first, the rest in order", len(got), pages, got[0], n+2, n/page+1)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 20 {
		getIn(t, s, hostedRepo, target+"?n=10")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap has grown by %d bytes over 20 lists", grown)
	}
}

// TestChangedIsAskedAnew: after a push that went through, nobody is given the
// list from before: not from memory, not from a row, not by an answer that was
// on its way meanwhile.
func TestChangedIsAskedAnew(t *testing.T) {
	for _, during := range []bool{false, true} {
		t.Run(fmt.Sprintf("while it is asked %t", during), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := newStore(t)
				u := &scripted{takes: 100 * time.Millisecond, list: []v1.Descriptor{entry(1, signature)}}
				s := New(Options{Store: db, Upstream: u.ask, Timeout: time.Second, TTL: time.Minute})
				var asking sync.WaitGroup
				if during {
					asking.Go(func() { _, _, _ = s.upstream.ask(t.Context(), repo, subject) })
					time.Sleep(50 * time.Millisecond)
				} else {
					get(t, s, http.MethodGet, target)
				}
				if err := s.Changed(t.Context(), repo, subject); err != nil {
					t.Fatal(err)
				}
				asking.Wait() // what was on its way has arrived
				u.list = append(u.list, entry(2, signature))
				for _, s := range []*Referrers{s, New(Options{Store: db, Upstream: u.ask, Timeout: time.Second, TTL: time.Minute})} {
					if diff := cmp.Diff([]string{"00000001", "00000002"}, digests(decode(t, get(t, s, http.MethodGet, target)).Manifests)); diff != "" {
						t.Errorf("list (-want +got):\n%s", diff)
					}
				}
			})
		})
	}
}
