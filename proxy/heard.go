package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Clients such as containerd and Docker ask with HEAD what a tag means, and then
// for the manifest by its digest: they never get it by the tag. What the upstream
// answered to the first request is remembered until the second brings the
// manifest, so that the tag is known here as if it had come by it.

const (
	// maxHeard bounds the manifests of which tags are remembered, maxHeardTags
	// the tags of each.
	maxHeard     = 4096
	maxHeardTags = 16
	// heardTTL is how long: the second request follows the first.
	heardTTL = 10 * time.Minute
)

// heard is what upstreams said that tags mean whose manifest is not here yet.
type heard struct {
	mu   sync.Mutex // for a read and the write that follows it
	tags *lru[right, []heardTag]
}

type heardTag struct {
	tag  string
	when time.Time
}

func newHeard() *heard { return &heard{tags: newLRU[right, []heardTag](maxHeard, one)} }

func (h *heard) add(r right, tag string, when time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, _ := h.tags.get(r)
	next := slices.DeleteFunc(slices.Clone(old), func(t heardTag) bool { return t.tag == tag || when.Sub(t.when) > heardTTL })
	if len(next) == maxHeardTags {
		next = next[1:]
	}
	h.tags.put(r, append(next, heardTag{tag, when}))
}

// of are the tags that mean r, as was said not long before now.
func (h *heard) of(r right, now time.Time) []heardTag {
	h.mu.Lock()
	defer h.mu.Unlock()
	tags, _ := h.tags.get(r)
	return slices.DeleteFunc(slices.Clone(tags), func(t heardTag) bool { return now.Sub(t.when) > heardTTL })
}

// hear takes in that upstream answered, to a HEAD of tag, with desc: at once where
// the manifest is here, else as soon as it comes.
func (p *Proxy) hear(ctx context.Context, up *Upstream, repo oci.Repo, tag string, desc v1.Descriptor) {
	if desc.Digest == "" || p.superseded(up) {
		return
	}
	said := heardTag{tag, p.now()}
	here := errors.New("it is here")
	err := p.store.View(ctx, func(tx storage.Tx) error {
		if _, _, err := p.storedManifest(tx, desc.Digest); err != nil {
			return err
		}
		return here
	})
	if !errors.Is(err, here) {
		p.heard.add(right{repo, desc.Digest}, tag, said.when)
		return
	}
	err = p.store.Update(p.life, func(tx storage.Tx) error { // what it says outlives who asked
		if _, _, err := p.storedManifest(tx, desc.Digest); err != nil {
			return err
		}
		if p.superseded(up) {
			return errSuperseded
		}
		if err := tx.PutRight(repo, desc.Digest); err != nil {
			return err
		}
		return said.file(tx, right{repo, desc.Digest})
	})
	if err != nil {
		p.log.WarnContext(ctx, "what a tag means is not filed", "repo", repo, "ref", tag, "digest", desc.Digest, "err", err)
		return
	}
	p.tellIndexer(ctx, repo, desc.Digest)
}

// file writes that t means r, unless more was found out since.
func (t heardTag) file(tx storage.Tx, r right) error {
	now, err := tx.Tag(r.repo, t.tag)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && !now.Checked.After(t.when):
		return tx.PutTag(storage.TagRow{Repo: r.repo, Tag: t.tag, Digest: r.d, Checked: t.when})
	default:
		return err
	}
}
