package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Bytes is a size in bytes, written 4MiB, 10GB or as a plain number.
type Bytes int64

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 || strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("%q is not a size: write 4MiB, 10GB or a number of bytes", s)
	}
	return Bytes(n), nil
}

// String writes b exactly, in the largest unit that needs no fraction.
func (b Bytes) String() string {
	for _, u := range []struct {
		name string
		size Bytes
	}{{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}} {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Room is a size in bytes, or a share of the file system when Percent is not 0.
type Room struct {
	Bytes   Bytes
	Percent float64 // (0, 100]
}

// ParseRoom reads a size or a percentage.
func ParseRoom(s string) (Room, error) {
	if num, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return Room{}, fmt.Errorf("%q is not a share: write a percentage from 0%% to 100%%", s)
		}
		return Room{Percent: p}, nil
	}
	b, err := ParseBytes(s)
	if err != nil {
		return Room{}, fmt.Errorf("%q is not a size: write 10GB, 4GiB, a number of bytes, or 80%% of the file system", s)
	}
	return Room{Bytes: b}, nil
}

// Of is r in bytes on a file system of total bytes.
func (r Room) Of(total int64) int64 {
	if r.Percent == 0 {
		return int64(r.Bytes)
	}
	return int64(float64(total) / 100 * r.Percent)
}

func (r Room) String() string {
	if r.Percent == 0 {
		return r.Bytes.String()
	}
	return strconv.FormatFloat(r.Percent, 'f', -1, 64) + "%"
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration: write 500ms, 30s, 5m or 24h", s)
	case d < 0:
		return 0, errors.New("a duration can't be negative")
	}
	return d, nil
}

// formatDuration writes 5m for what Duration.String calls 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// hostGrammar is that of RFC 1123 §2.1; the underscore is seen in practice.
var hostGrammar = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)+$`)

// isHostName reports a host name with at least one dot.
func isHostName(s string) bool { return len(s) <= 253 && hostGrammar.MatchString(s) }
