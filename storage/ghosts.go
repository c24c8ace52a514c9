package storage

import (
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxGhosts bounds what is remembered of blobs that are gone: some 3 MB.
const maxGhosts = 1 << 16

// ghosts remember when blobs first came that were evicted before they were read
// again. One that comes back has been read again by that: without this, a set of
// blobs larger than what is left to new ones could never prove itself against
// old ones that nobody wants any more.
type ghosts struct {
	mu    sync.Mutex
	m     map[uint64]int64 // the hash's first bytes -> seconds since 1970
	order []uint64         // a ring, as they came
	next  int
}

func ghostKey(d digest.Digest) (key uint64, ok bool) {
	var b [8]byte
	if hexed := d.Encoded(); len(hexed) >= 2*len(b) {
		if _, err := hex.Decode(b[:], []byte(hexed[:2*len(b)])); err == nil {
			return binary.BigEndian.Uint64(b[:]), true
		}
	}
	return 0, false
}

// add remembers that d came first at created.
func (g *ghosts) add(d digest.Digest, created time.Time) {
	key, ok := ghostKey(d)
	if !ok || created.IsZero() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m == nil {
		g.m = map[uint64]int64{}
	}
	if _, known := g.m[key]; !known {
		if len(g.order) < maxGhosts {
			g.order = append(g.order, key)
		} else {
			delete(g.m, g.order[g.next])
			g.order[g.next] = key
			g.next = (g.next + 1) % maxGhosts
		}
	}
	g.m[key] = created.Unix()
}

// created is when d first came, as far as that is remembered; now otherwise.
func (g *ghosts) created(d digest.Digest, now time.Time) time.Time {
	key, ok := ghostKey(d)
	if !ok {
		return now
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, ok := g.m[key]; ok && at < now.Unix() {
		return time.Unix(at, 0).UTC()
	}
	return now
}
