package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// begin begins an upload.
func (s *server) begin(t *testing.T, repo string) (loc string) {
	t.Helper()
	a := s.send(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	if a.status != http.StatusAccepted {
		t.Fatalf("begin: %d %s", a.status, a.body)
	}
	return a.header.Get("Location")
}

// chunk sends body[from:to], the size of which is announced or not.
func (s *server) chunk(t *testing.T, method, loc string, body []byte, from, to int, announced bool) answer {
	t.Helper()
	var r io.Reader = bytes.NewReader(body[from:to])
	if !announced {
		r = io.MultiReader(r)
	}
	return s.send(t, method, loc, r, "Content-Range", fmt.Sprintf("%d-%d", from, to-1))
}

// TestRefusedGoesOn: a chunk for which others left no room is taken when its client
// sends it again, once there is.
func TestRefusedGoesOn(t *testing.T) {
	for _, announced := range []bool{true, false} {
		for _, last := range []string{http.MethodPatch, http.MethodPut} {
			t.Run(fmt.Sprint(last, announced), func(t *testing.T) {
				s := newHost(t, Hosting{Quota: 1000}, nil)
				other, loc := s.begin(t, "local/a"), s.begin(t, "local/b")
				body := random(700, 1)
				if a := s.chunk(t, http.MethodPatch, other, random(600, 2), 0, 600, true); a.status != http.StatusAccepted {
					t.Fatalf("the other's: %d %s", a.status, a.body)
				}
				if a := s.chunk(t, http.MethodPatch, loc, body, 0, 300, announced); a.status != http.StatusAccepted {
					t.Fatalf("the first: %d %s", a.status, a.body)
				}
				to, query := loc, "?digest="+digest.FromBytes(body).String()
				if last == http.MethodPut {
					to += query
				}
				for range 2 {
					a := s.chunk(t, last, to, body, 300, 700, announced)
					wantCode(t, "the second", a, http.StatusTooManyRequests, "TOOMANYREQUESTS")
					if a.header.Get("Retry-After") == "" {
						t.Error("it is not told when to try again")
					}
					if a := s.do(t, http.MethodGet, loc); a.status != http.StatusNoContent || a.header.Get("Range") != "0-299" {
						t.Errorf("the upload: %d %s, Range %s, want 0-299", a.status, a.body, a.header.Get("Range"))
					}
				}
				if got := s.store.Usage().Partial; got != 900 {
					t.Errorf("%d bytes are kept of both, want 900", got)
				}
				if a := s.do(t, http.MethodDelete, other); a.status != http.StatusNoContent {
					t.Fatalf("cancel: %d", a.status)
				}
				a := s.chunk(t, last, to, body, 300, 700, announced)
				if last == http.MethodPatch && a.status == http.StatusAccepted {
					a = s.send(t, http.MethodPut, loc+query, nil)
				}
				if a.status != http.StatusCreated {
					t.Errorf("once there is room: %d %s", a.status, a.body)
				}
				if a := s.do(t, http.MethodGet, "/v2/local/b/blobs/"+digest.FromBytes(body).String()); !bytes.Equal(a.body, body) {
					t.Error("other bytes are there")
				}
			})
		}
	}
}

// TestRefusedForGood: what will never fit is over.
func TestRefusedForGood(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	loc := s.begin(t, "local/a")
	wantCode(t, "too much", s.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(random(1001, 1)))), http.StatusForbidden, "DENIED")
	wantCode(t, "again", s.send(t, http.MethodPatch, loc, nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

// TestOldestGoesOn: of two uploads that take each other's room the younger ends.
func TestOldestGoesOn(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, nil)
	older, younger := s.begin(t, "local/a"), s.begin(t, "local/b")
	body := random(900, 1)
	for _, loc := range []string{younger, older} {
		if a := s.chunk(t, http.MethodPatch, loc, body, 0, 450, true); a.status != http.StatusAccepted {
			t.Fatalf("the first: %d %s", a.status, a.body)
		}
	}
	wantCode(t, "the younger's second", s.chunk(t, http.MethodPatch, younger, body, 450, 900, true), http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if a := s.chunk(t, http.MethodPatch, older, body, 450, 900, false); a.status != http.StatusAccepted {
		t.Errorf("the older's second: %d %s", a.status, a.body)
	}
	wantCode(t, "the younger", s.do(t, http.MethodGet, younger), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

// meeting is a body whose second piece comes once all have sent their first, or
// have been refused.
type meeting struct {
	io.Reader
	first, rest []byte
	here        sync.Once
	all         *sync.WaitGroup
}

func (m *meeting) Read(p []byte) (int, error) {
	if len(m.first) > 0 {
		n := copy(p, m.first)
		m.first = m.first[n:]
		return n, nil
	}
	if m.Reader == nil {
		m.here.Do(m.all.Done)
		m.all.Wait()
		m.Reader = bytes.NewReader(m.rest)
	}
	return m.Reader.Read(p)
}

func (m *meeting) Close() error {
	m.here.Do(m.all.Done)
	return nil
}

// TestCrowdThatDoesNotSay has 16 clients push the same layer at once, where there is
// room for one, and say only in the end what it is: those that are refused begin
// anew, and all have it then.
func TestCrowdThatDoesNotSay(t *testing.T) {
	const clients = 16
	body := random(1<<20, 1)
	d := digest.FromBytes(body)
	s := newHost(t, Hosting{Quota: int64(len(body)) + 100}, nil)
	var all, crowd sync.WaitGroup
	all.Add(clients)
	push := func(body io.Reader) (done bool, a answer) {
		if a := s.do(t, http.MethodHead, "/v2/local/app/blobs/"+d.String()); a.status == http.StatusOK {
			return true, a
		}
		loc := s.begin(t, "local/app")
		if a = s.send(t, http.MethodPatch, loc, body); a.status == http.StatusAccepted {
			a = s.send(t, http.MethodPut, loc+"?digest="+d.String(), nil)
		}
		return a.status == http.StatusCreated, a
	}
	for range clients {
		crowd.Go(func() {
			done, a := push(&meeting{first: body[:100<<10], rest: body[100<<10:], all: &all})
			for !done && a.status == http.StatusTooManyRequests && t.Context().Err() == nil {
				done, a = push(io.MultiReader(bytes.NewReader(body)))
			}
			if !done {
				t.Errorf("push: %d %s", a.status, a.body)
			}
		})
	}
	crowd.Wait()
	if got := s.store.Usage().Blobs[storage.KindHosted]; got != 1 {
		t.Errorf("%d blobs are stored, want one", got)
	}
	if got := s.store.OpenCount("local").Bytes(); got != 0 {
		t.Errorf("%d bytes are open in the end", got)
	}
}

// TestPushedMeanwhile: who sends what the repository has had for a moment may try
// again, and finds it. Other bytes are refused for good.
func TestPushedMeanwhile(t *testing.T) {
	body, other := random(1000, 1), random(1000, 2)
	for name, c := range map[string]struct {
		sends []byte
		to    string // where the body is pushed meanwhile
		again bool
	}{
		"the same":                    {body, "local/app", true},
		"other bytes":                 {other, "local/app", false},
		"the same in another":         {body, "local/other", false},
		"what only begins as it does": {append(bytes.Clone(body[:500]), other[:500]...), "local/app", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHost(t, Hosting{Quota: 1100}, nil)
			loc := s.begin(t, "local/app")
			r, w := io.Pipe()
			var pushes sync.WaitGroup
			pushes.Go(func() {
				a := s.send(t, http.MethodPatch, loc, r)
				if !c.again {
					wantCode(t, "it", a, http.StatusForbidden, "DENIED")
				} else if wantCode(t, "it", a, http.StatusTooManyRequests, "TOOMANYREQUESTS"); a.header.Get("Retry-After") == "" ||
					!bytes.Contains(a.body, []byte(digest.FromBytes(body).String())) {
					t.Errorf("the refusal: %v %s", a.header, a.body)
				}
				_ = r.Close()
			})
			_, _ = w.Write(c.sends[:50])
			s.await(t, 50)
			s.pushBlob(t, c.to, body)
			_, _ = w.Write(c.sends[50:])
			_ = w.Close()
			pushes.Wait()
		})
	}
}

// TestRefusedAreNotTooMany: what a client was refused and leaves does not keep it
// from beginning anew.
func TestRefusedAreNotTooMany(t *testing.T) {
	s := newHost(t, Hosting{Quota: 1000}, func(o *Options) { o.MaxUploads = 3 })
	full := s.begin(t, "local/app")
	if a := s.send(t, http.MethodPatch, full, bytes.NewReader(random(900, 1))); a.status != http.StatusAccepted {
		t.Fatalf("the first: %d %s", a.status, a.body)
	}
	for range 5 {
		a := s.send(t, http.MethodPatch, s.begin(t, "local/app"), bytes.NewReader(random(200, 1)))
		wantCode(t, "another", a, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	}
	if a := s.do(t, http.MethodGet, full); a.status != http.StatusNoContent {
		t.Errorf("the first: %d %s", a.status, a.body)
	}
}

// TestQuotaOfPushesGivenUp: a refusal tells what takes the room, and what to do,
// which helps.
func TestQuotaOfPushesGivenUp(t *testing.T) {
	const images, uploads = "delete images there, by digest", "uploads that are under way 0 B; "
	s := newHost(t, Hosting{Quota: 1200}, nil)
	refused := func(what string, has, hasNot []string) {
		t.Helper()
		body := random(900, 9)
		a := s.send(t, http.MethodPost, "/v2/local/app/blobs/uploads/?digest="+digest.FromBytes(body).String(), bytes.NewReader(body))
		wantCode(t, what, a, http.StatusForbidden, "DENIED")
		for _, text := range has {
			if !strings.Contains(string(a.body), text) {
				t.Errorf("%s: %s, want %q in it", what, a.body, text)
			}
		}
		for _, text := range hasNot {
			if strings.Contains(string(a.body), text) {
				t.Errorf("%s: %s, want no %q in it", what, a.body, text)
			}
		}
	}
	layer := random(400, 1)
	s.pushBlob(t, "local/app", layer)
	s.pushBlob(t, "local/other", layer) // counted once
	given := []string{"900 B more, where 800 B are left, would exceed the quota of local, 1.2 KiB: ", "its images take 0 B", "that no image names, of pushes under way or given up, 400 B", "sociable gc --grace 10m", "hosted.local.quota"}
	refused("of pushes that were given up", given, []string{images})
	s.pushImage(t, "local/app", "v1", layer)
	refused("of images", []string{uploads + images, "hosted.local.quota"}, []string{"given up", "sociable gc"})
	s.pushBlob(t, "local/other", random(200, 2))
	refused("of both", []string{"of pushes under way or given up, 200 B", "sociable gc --grace 10m", images}, nil)
	c := storage.NewCollector(storage.CollectOptions{Store: s.store, Hosted: []string{"local"}})
	if _, err := c.CollectAfter(t.Context(), 0, false, nil); err != nil {
		t.Fatal(err)
	}
	refused("after a collection", []string{images}, []string{"given up", "sociable gc"})
}
