package indexer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// pushedBefore has a layer come again just before it is set aside.
type pushedBefore struct {
	Store
	push func()
}

func (p *pushedBefore) SetAside(ctx context.Context, d digest.Digest) (bool, error) {
	p.push()
	return p.Store.SetAside(ctx, d)
}

// TestRottenLayerPushedAgain: a damaged layer that is right again when that was found
// stays, and is indexed.
func TestRottenLayerPushedAgain(t *testing.T) {
	a := newLayer(t, 1)
	img := newImage(t, "img", a)
	inBubble(t, func(t *testing.T) {
		p := &pushedBefore{}
		w := start(t, t.TempDir(), Options{Rules: everything}, func(s Store) Store {
			p.Store = s
			return p
		})
		w.keep(a)
		w.settle()
		d := digest.FromBytes(a)
		file := filepath.Join(w.dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
		pushes := 0
		p.push = func() {
			pushes++
			w.check("push", errors.Join(os.Remove(file), os.WriteFile(file, a, 0o400)))
		}
		w.check("rot", errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, make([]byte, len(a)), 0o600)))
		w.manifest(redis, img)
		w.settle()
		time.Sleep(time.Hour)
		w.settle()
		w.wantIndex(img, a)
		if pushes != 1 {
			t.Errorf("it was found to be damaged %d times, want once", pushes)
		}
		if jobs := w.jobs(); len(jobs) != 0 {
			t.Errorf("jobs left: %+v", jobs)
		}
	})
}
