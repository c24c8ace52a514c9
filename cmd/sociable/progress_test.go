package main

import (
	"strings"
	"testing"
	"time"
)

func TestProgressLine(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		what  string
		done  int64
		max   int64
		width int
		want  string
	}{
		"begun":         {"fetching redis:7", 0, 80 * mib, 80, "fetching redis:7 [                                        ]   0%  0 B of 80 MiB"},
		"half":          {"x", 40 * mib, 80 * mib, 80, "x [====================                    ]  50%  40 MiB of 80 MiB"},
		"more than all": {"x", 90 * mib, 80 * mib, 80, "x [========================================] 100%  90 MiB of 80 MiB"},
		"unknown":       {"reading -", 3 * mib, -1, 80, "reading -  3.0 MiB"},
		"nothing":       {"", 0, 0, 80, "  0 B"},
		"long name":     {"reading " + strings.Repeat("0123456789", 9), mib, 4 * mib, 60, "reading 01…0123456789 [==        ]  25%  1.0 MiB of 4.0 MiB"},
		"narrow":        {"fetching redis:7", mib, 4 * mib, 30, "…7  25%  1.0 MiB of 4.0 MiB"},
		"a slit":        {"fetching redis:7", mib, 4 * mib, 9, "  2… MiB"},
		"no terminal":   {"fetching redis:7", mib, 4 * mib, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bar{what: tc.what, done: tc.done, max: tc.max}
			got := b.line(0, tc.width)
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if n := len([]rune(got)); n >= max(tc.width, 1) {
				t.Errorf("%d characters in %d columns", n, tc.width)
			}
		})
	}
}

// TestProgressRate: what is told of at once, since it was here already, is no rate.
func TestProgressRate(t *testing.T) {
	b := &bar{max: 100 << 20, done: 60 << 20}
	at := func(ms int, done int64, want string) {
		t.Helper()
		b.done += done
		if got := b.line(time.Duration(ms)*time.Millisecond, 100); !strings.HasSuffix(got, want) {
			t.Errorf("after %d ms: %q, want …%q", ms, got, want)
		}
	}
	at(100, 0, "60 MiB of 100 MiB")
	at(900, 1<<20, "61 MiB of 100 MiB")
	at(1000, 0, "61 MiB of 100 MiB")
	at(1500, 1<<20, "62 MiB of 100 MiB")
	at(2000, 3<<20, "65 MiB of 100 MiB  4.0 MiB/s  9s")
	at(4000, 0, "65 MiB of 100 MiB  1.3 MiB/s  27s")
	at(6100, 0, "65 MiB of 100 MiB") // nothing came for long: no rate, and no end in sight
}
