package catalog

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"time"

	"github.com/opencontainers/go-digest"
)

// row is an Image without pointers.
type row struct {
	words
	size, read, saved, pulls int64
	published, lastPull      int64 // Unix nanoseconds, or never
	layers, indexed, wanted  int32
	measured, live           bool
}

const never = math.MinInt64

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time {
	if n == never {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// key is what a manifest is found by: of a digest of 32 bytes these, of another
// its hash.
type key [sha256.Size]byte

func keyOf(d digest.Digest) (k key) {
	if d.Algorithm() == digest.SHA256 && len(d.Encoded()) == hex.EncodedLen(len(k)) {
		if _, err := hex.Decode(k[:], []byte(d.Encoded())); err == nil {
			return k
		}
	}
	return sha256.Sum256([]byte(d))
}

// set has r say what x says; its text is put into a anew only if it changed.
func (r *row) set(a *arena, x *Image, scratch []byte) []byte {
	text, ends := encode(scratch[:0], x)
	if !r.live || r.ends != ends || !bytes.Equal(a.text(r.place), text) {
		if r.live {
			a.drop(r.place)
		}
		r.place, r.ends = a.put(text), ends
	}
	r.size, r.read, r.saved, r.pulls = x.Size, x.Read, x.Saved, x.Pulls
	r.published, r.lastPull = nanos(x.Published), nanos(x.LastPull)
	r.layers, r.indexed, r.wanted = int32(x.Layers), int32(x.Indexed), int32(x.Wanted)
	r.measured, r.live = x.Measured, true
	return text
}

// image is r as an Image.
func (r *row) image(a *arena) *Image {
	text := a.text(r.place)
	return &Image{
		Reference: string(r.reference(text)), Repository: string(text[:r.ends[endRepository]]), Tags: r.tags(text),
		Manifest: digest.Digest(r.manifest(text)), Platform: string(r.platform(text)), Index: digest.Digest(r.index(text)),
		Published: timeOf(r.published), Size: r.size, Layers: int(r.layers), Indexed: int(r.indexed), Wanted: int(r.wanted),
		Benefit: Benefit{Read: r.read, Saved: r.saved, Measured: r.measured}, Pulls: r.pulls, LastPull: timeOf(r.lastPull),
	}
}

// compare orders rows by a column, and those that are equal in it by reference,
// platform and digest: no two are equal.
func (a *arena) compare(c Column, x, y *row) int {
	n := 0
	switch c {
	case ByReference:
	case ByPlatform:
		n = bytes.Compare(x.platform(a.text(x.place)), y.platform(a.text(y.place)))
	case BySize:
		n = cmp.Compare(x.size, y.size)
	case ByIndexed:
		n = cmp.Compare(share(int64(x.indexed), int64(x.layers)), share(int64(y.indexed), int64(y.layers)))
	case ByRead:
		n = cmp.Compare(share(x.read, x.size), share(y.read, y.size))
	case BySaved:
		n = cmp.Compare(x.saved, y.saved)
	case ByPulls:
		n = cmp.Compare(x.pulls, y.pulls)
	case ByLastPull:
		n = cmp.Compare(x.lastPull, y.lastPull)
	}
	if n != 0 {
		return n
	}
	s, t := a.text(x.place), a.text(y.place)
	if n = bytes.Compare(x.reference(s), y.reference(t)); n != 0 {
		return n
	}
	if n = bytes.Compare(x.platform(s), y.platform(t)); n != 0 {
		return n
	}
	return bytes.Compare(x.manifest(s), y.manifest(t))
}

func share(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// matches reports whether all words are in names or digests of r.
func (r *row) matches(a *arena, list []word) bool {
	text := a.text(r.place)
	names := r.names(text)
	for _, w := range list {
		if bytes.Contains(names, w.text) {
			continue
		}
		if w.hex == nil || !bytes.Contains(r.manifest(text), w.hex) && !bytes.Contains(r.index(text), w.hex) {
			return false
		}
	}
	return true
}

// word is one that is searched; hex is what it would be of a digest, if it can be
// of one.
type word struct{ text, hex []byte }

// leastHex is how many letters of a digest one has to give: fewer are in digests
// by chance.
const leastHex = 6

func wordOf(s string) word {
	w := word{text: []byte(s)}
	hexed := bytes.TrimPrefix(w.text, []byte("sha256:"))
	if len(hexed) >= leastHex && len(bytes.Trim(hexed, "0123456789abcdef")) == 0 {
		w.hex = hexed
	}
	return w
}
