package proxy

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// slowRemoval is a medium that removes the first partial file only when it is told.
type slowRemoval struct {
	storage.Blobs
	first    atomic.Bool
	removing chan struct{} // closed when it is asked to
	on       chan struct{} // goes on when it is closed
}

func (b *slowRemoval) OpenPartial(ctx context.Context, key string) (storage.PartialFile, error) {
	f, err := b.Blobs.OpenPartial(ctx, key)
	if err != nil {
		return nil, err
	}
	return &slowlyRemoved{f, b}, nil
}

type slowlyRemoved struct {
	storage.PartialFile
	b *slowRemoval
}

func (f *slowlyRemoved) Remove() error {
	if f.b.first.CompareAndSwap(false, true) {
		close(f.b.removing)
		<-f.b.on
	}
	return f.PartialFile.Remove()
}

// TestRetryAfterWrongBytes has a client ask again as soon as a wrong blob was cut, and
// before what came of it is removed: it waits for that, and then the upstream is asked.
func TestRetryAfterWrongBytes(t *testing.T) {
	g := newRegistry(t)
	layer := random(1<<20, 64)
	d := g.addBlob("a", layer)
	bad := bytes.Clone(layer)
	bad[1000] ^= 1
	var gets atomic.Int32
	g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method != http.MethodGet || gets.Add(1) > 1 {
			return false
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
		return true
	}
	medium := &slowRemoval{removing: make(chan struct{}), on: make(chan struct{})}
	s := newServerAt(t, t.TempDir(), g, nil, func(o *storage.Options) { medium.Blobs, o.Blobs = o.Blobs, medium })
	goOn := sync.OnceFunc(func() { close(medium.on) })
	t.Cleanup(goOn) // before the server stops, which waits for it
	path := "/v2/up/a/blobs/" + d.String()
	if a := s.do(t, http.MethodGet, path); a.err == nil && a.status == http.StatusOK {
		t.Errorf("all of a wrong blob was sent: %d bytes", len(a.body))
	}
	<-medium.removing

	left := errors.New("the client has left")
	ctx, leave := context.WithCancelCause(t.Context())
	leave(left)
	up := s.p.routes().def
	for range 20 { // who joined what is dropped would not always look at ctx
		f, _, err := s.p.acquire(ctx, up, oci.Repo{Upstream: "up", Name: "a"}, d, true)
		if err == nil {
			f.release()
		}
		if !errors.Is(err, left) {
			t.Errorf("who asks while wrong bytes are removed gets %v, and does not wait", err)
			break
		}
	}
	second := make(chan answer)
	go func() { second <- s.do(t, http.MethodGet, path) }()
	goOn()
	if a := <-second; a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
		t.Errorf("asked again: %d, %d of %d bytes, %v", a.status, len(a.body), len(layer), a.err)
	}
	if n := gets.Load(); n != 2 {
		t.Errorf("the upstream was asked %d times, want 2", n)
	}
}
