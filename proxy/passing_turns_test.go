package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// passing is a front of a host, for whose unfinished uploads there is so much room.
func passing(t *testing.T, room int64) (front, host *server) {
	t.Helper()
	host = newHost(t, Hosting{}, nil)
	front = newServer(t, &registry{Server: host.Server}, func(o *Options) {
		o.Upstreams[0].PushThrough, o.PassingBytes = true, room
	})
	return front, host
}

// TestCrowdPassesThrough: of many that push at once to an upstream, and for which
// there is no room together, all get through, whether they tell their sizes or not,
// and whether one comes in one piece or in several.
func TestCrowdPassesThrough(t *testing.T) {
	const clients, size, room = 8, 370 << 10, 1000 << 10
	for _, same := range []bool{true, false} {
		for _, announced := range []bool{true, false} {
			for _, pieces := range []int{1, 3} {
				t.Run(fmt.Sprint(same, announced, pieces), func(t *testing.T) {
					front, host := passing(t, room)
					var crowd sync.WaitGroup
					for i := range clients {
						body := random(size, byte(i))
						if same {
							body = random(size, 1)
						}
						crowd.Go(func() { front.inPieces(t, fmt.Sprint("up/local/a", i), body, pieces, announced) })
					}
					crowd.Wait()
					if got := front.store.Usage().Open; got.Uploads != 0 {
						t.Errorf("%+v are left", got)
					}
					if got := host.store.Usage().Open; got.Uploads != 0 {
						t.Errorf("%+v are left at the upstream", got)
					}
				})
			}
		}
	}
}

// inPieces pushes a blob, which has to succeed.
func (s *server) inPieces(t *testing.T, repo string, body []byte, pieces int, announced bool) {
	loc := s.send(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil).header.Get("Location")
	for i := range pieces {
		a := s.chunk(t, http.MethodPatch, loc, body, len(body)*i/pieces, len(body)*(i+1)/pieces, announced)
		if a.status != http.StatusAccepted {
			t.Errorf("%s: piece %d: %d %s, %v", repo, i, a.status, a.body, a.err)
			return
		}
	}
	if a := s.send(t, http.MethodPut, loc+"?digest="+digest.FromBytes(body).String(), nil); a.status != http.StatusCreated {
		t.Errorf("%s: end: %d %s, %v", repo, a.status, a.body, a.err)
	}
}

// TestWaitsForRoom: an upload to an upstream waits while another one takes its room,
// and nothing is read of it meanwhile; it goes on when that ends, and its client may
// go on with it by another request.
func TestWaitsForRoom(t *testing.T) {
	for _, how := range []string{"it ends", "its client comes back"} {
		t.Run(how, func(t *testing.T) {
			front, host := passing(t, 1000)
			other, loc := front.begin(t, "up/local/a"), front.begin(t, "up/local/b")
			if a := front.chunk(t, http.MethodPatch, other, random(600, 2), 0, 600, true); a.status != http.StatusAccepted {
				t.Fatalf("the other: %d %s", a.status, a.body)
			}
			body := random(700, 1)
			waits := make(chan answer, 1)
			go func() {
				waits <- front.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(body)))
			}()
			waitFor(t, func() bool { // it is in there
				front.p.senders.mu.Lock()
				defer front.p.senders.mu.Unlock()
				return len(front.p.senders.m) == 1
			})
			if how == "its client comes back" {
				if a := front.do(t, http.MethodGet, loc); a.status == http.StatusConflict {
					t.Errorf("another request: %d %s, want that the first made way", a.status, a.body)
				}
				if a := <-waits; a.err == nil && a.status < 400 {
					t.Errorf("the first: %d %s", a.status, a.body)
				}
				if got := front.store.Usage().Open.Bytes; got > 1000 {
					t.Errorf("%d bytes are kept, want 1000 at most", got)
				}
				return
			}
			if a := front.do(t, http.MethodDelete, other); a.status != http.StatusNoContent {
				t.Fatalf("cancel: %d", a.status)
			}
			if a := <-waits; a.status != http.StatusAccepted {
				t.Fatalf("once there is room: %d %s, %v", a.status, a.body, a.err)
			}
			d := digest.FromBytes(body).String()
			if a := front.send(t, http.MethodPut, loc+"?digest="+d, nil); a.status != http.StatusCreated {
				t.Errorf("end: %d %s", a.status, a.body)
			}
			if a := host.do(t, http.MethodGet, "/v2/local/b/blobs/"+d); !bytes.Equal(a.body, body) {
				t.Errorf("at the upstream: %d", a.status)
			}
		})
	}
}

func TestTurns(t *testing.T) {
	var ts turns
	now := time.Unix(0, 0)
	for i, c := range []struct {
		upstream, id string
		after        time.Duration
		want         bool
	}{
		{"u", "a", 0, true}, {"u", "b", 0, false}, {"v", "b", 0, true}, {"u", "a", turnTime - 1, true}, {"u", "b", 0, false},
		{"u", "b", 1, true}, {"u", "a", 0, false}, {"u", "b", turnTime, true}, {"u", "a", 0, false},
	} {
		now = now.Add(c.after)
		if got := ts.take(c.upstream, c.id, now); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
	ts.leave("u", "a")
	if ts.take("u", "a", now) {
		t.Error("who has no turn ended another's")
	}
	ts.leave("u", "b")
	if !ts.take("u", "a", now) {
		t.Error("a turn was not ended")
	}
}

// TestCutOffMakesWay: what is left of an upload whose client is gone, and which can be
// gone on with, is no reason to refuse another.
func TestCutOffMakesWay(t *testing.T) {
	front, _ := passing(t, 1000)
	front.p.passWait = 0
	loc := front.begin(t, "up/local/a")
	a := front.send(t, http.MethodPatch, loc, io.MultiReader(bytes.NewReader(random(600, 2)), broken{}))
	if a.err == nil && a.status < 400 {
		t.Fatalf("cut off: %d", a.status)
	}
	waitFor(t, func() bool { // for the server to hear of it
		a := front.do(t, http.MethodGet, loc)
		return a.status == http.StatusNoContent && a.header.Get("Range") == "0-599"
	})
	if a := front.pushOf(t, "up/local/b", random(700, 1)); a.status != http.StatusCreated {
		t.Errorf("another: %d %s", a.status, a.body)
	}
	wantCode(t, "it", front.do(t, http.MethodGet, loc), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

// broken is a body that ends early.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
