package oci

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Range is a half-open run of bytes, [Off, End).
type Range struct{ Off, End int64 }

// Len is the number of bytes in r.
func (r Range) Len() int64 { return r.End - r.Off }

// ContentRange is the header's value for r of size bytes in all (RFC 9110 §14.4).
func (r Range) ContentRange(size int64) string {
	const digits = 20
	v := append(make([]byte, 0, len("bytes -/")+3*digits), "bytes "...)
	v = append(strconv.AppendInt(v, r.Off, 10), '-')
	v = append(strconv.AppendInt(v, r.End-1, 10), '/')
	return string(strconv.AppendInt(v, size, 10))
}

// maxRanges bounds the specs in one header: beyond it the header counts as
// absent, which RFC 9110 §14.2 allows and which defeats many-small-ranges attacks.
const maxRanges = 64

// RangeSpec is one range as a header states it, before the size is known:
// First and Last are inclusive; First is -1 in a suffix range, whose length
// Last then is; Last is -1 in an open-ended one.
type RangeSpec struct{ First, Last int64 }

// beyond is a range that no body has.
var beyond = RangeSpec{First: math.MaxInt64, Last: math.MaxInt64}

// ParseRange reads a Range header (RFC 9110 §14.1.2). A header that is absent,
// malformed, or in another unit gives nil: it is to be ignored. A lone range that
// ends before it begins is unsatisfiable, as RFC 9110 §14.2 allows and the
// distribution specification's conformance tests ask for.
func ParseRange(header string) []RangeSpec {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") { // RFC 9110 §14.1: in any case
		return nil
	}
	if reversed(set) {
		return []RangeSpec{beyond}
	}
	var specs []RangeSpec
	for _, part := range strings.Split(set, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue // RFC 9110 §5.6.1: empty list elements are allowed
		}
		s, ok := parseSpec(part)
		if !ok || len(specs) == maxRanges {
			return nil
		}
		specs = append(specs, s)
	}
	return specs
}

func parseSpec(s string) (RangeSpec, bool) {
	a, b, ok := strings.Cut(s, "-")
	if !ok || (a == "" && b == "") {
		return RangeSpec{}, false
	}
	first, ok1 := parsePos(a)
	last, ok2 := parsePos(b)
	if !ok1 || !ok2 || (a != "" && b != "" && last < first) {
		return RangeSpec{}, false
	}
	return RangeSpec{First: first, Last: last}, true
}

// reversed reports a range that ends before it begins.
func reversed(s string) bool {
	a, b, _ := strings.Cut(s, "-")
	first, ok1 := parsePos(a)
	last, ok2 := parsePos(b)
	return ok1 && ok2 && first >= 0 && last >= 0 && last < first
}

// parsePos reads digits only; "" is -1. A number beyond int64 is as good as the largest.
func parsePos(s string) (int64, bool) {
	if s == "" {
		return -1, true
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}

// Resolve turns the spec into bytes of a body of size bytes; ok is false when
// no byte of it exists (an unsatisfiable range).
func (s RangeSpec) Resolve(size int64) (r Range, ok bool) {
	switch {
	case s.First < 0: // suffix
		n := min(s.Last, size)
		r = Range{size - n, size}
	case s.Last < 0 || s.Last >= size:
		r = Range{s.First, size}
	default:
		r = Range{s.First, s.Last + 1}
	}
	return r, r.Off < r.End
}

// ResolveAll resolves every spec and drops those that no byte satisfies. An
// empty result means 416. Sets that ask for more than the whole body, as
// overlapping ranges do, give nil, false: send the whole body instead.
func ResolveAll(specs []RangeSpec, size int64) (rs []Range, ok bool) {
	var sum int64
	for _, s := range specs {
		if r, sat := s.Resolve(size); sat {
			rs = append(rs, r)
			sum += r.Len()
		}
	}
	if len(rs) > 1 && sum > size {
		return nil, false
	}
	return rs, true
}

// ParseContentRange reads "bytes a-b/size" of a 206, or "bytes */size" of a
// 416, for which r is empty. size is -1 where the header says "*".
func ParseContentRange(h string) (r Range, size int64, err error) {
	bad := func() (Range, int64, error) { return Range{}, 0, fmt.Errorf("bad Content-Range %q", clip(h)) }
	rest, ok := strings.CutPrefix(h, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return bad()
	}
	size = -1
	if total != "*" {
		if size, ok = parsePos(total); !ok || size < 0 || size == 1<<63-1 {
			return bad()
		}
	}
	if span == "*" {
		return Range{}, size, nil
	}
	s, ok := parseSpec(span)
	if !ok || s.First < 0 || s.Last < 0 || s.Last == 1<<63-1 || (size >= 0 && s.Last >= size) {
		return bad()
	}
	return Range{s.First, s.Last + 1}, size, nil
}
