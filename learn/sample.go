package learn

import (
	"encoding/binary"
	"hash/fnv"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/opencontainers/go-digest"
)

// client tells clients apart: by where they are, what they are and, where that
// is known, who.
type client uint64

func clientOf(r *http.Request, who func(*http.Request) string) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	h := fnv.New64a()
	for _, s := range []string{host, r.UserAgent(), name(r, who)} {
		_, _ = h.Write([]byte(s)) // a hash never fails
		_, _ = h.Write([]byte{0})
	}
	return client(h.Sum64())
}

// callerOf tells callers apart by what they can't make up: where they are, an IPv6
// network of 64 bits being one place, and who they are where that is known. The
// starts of one teach no more than one start.
func callerOf(r *http.Request, who func(*http.Request) string) client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() && !a.Is4In6() {
		if n, err := a.WithZone("").Prefix(64); err == nil {
			host = n.String()
		}
	}
	h := fnv.New64a()
	for _, s := range []string{host, name(r, who)} {
		_, _ = h.Write([]byte(s)) // a hash never fails
		_, _ = h.Write([]byte{0})
	}
	return client(mix(h.Sum64()))
}

func name(r *http.Request, who func(*http.Request) string) string {
	if who == nil {
		return ""
	}
	return who(r)
}

// sampled reports whether a client is to be offered the index without what was
// learnt. It is the same for a client and an image all day, here and on every
// other replica. Once half of Expire has gone by without a start that counts,
// ever more are, so that what starts still need does not expire.
func (p Policy) sampled(c client, manifest digest.Digest, confirmed, now time.Time) bool {
	share := float64(p.Sample) / 100
	if over := now.Sub(confirmed) - p.Expire/2; over > 0 {
		share += (1 - share) * float64(over) / float64(p.Expire/2)
	}
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(c)))
	_, _ = h.Write([]byte(manifest))
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(now.Unix()/int64(24*time.Hour/time.Second))))
	return float64(mix(h.Sum64())>>11)/(1<<53) < share
}

// mix spreads what an FNV hash leaves in its low bits.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
