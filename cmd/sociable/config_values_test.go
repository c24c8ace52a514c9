package main

import (
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "4MiB": 4 << 20, "10GB": 10e9, "1.5 GiB": 3 << 29, "2TB": 2e12, "512kB": 512e3, "1025": 1025, "7TiB": 7 << 40,
	} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d again", got.String(), again, err, got)
		}
	}
	for _, text := range []string{"", "-1", "x", "4 MiBs", "99999999999999999999", "10 EiB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		}
	}
}

func TestRoom(t *testing.T) {
	for _, tt := range []struct {
		text, shown string
		total, want int64
	}{
		{"80%", "80%", 1000, 800}, {"12.5 %", "12.5%", 1000, 125}, {"100%", "100%", 1 << 62, 1 << 62},
		{"10GB", "10GB", 1000, 10e9}, {"0", "0", 1000, 0}, {"0%", "0", 1000, 0},
	} {
		got, err := ParseRoom(tt.text)
		if err != nil || got.Of(tt.total) != tt.want || got.String() != tt.shown {
			t.Errorf("ParseRoom(%q) = %v of %d: %d, %v; want %s: %d", tt.text, got, tt.total, got.Of(tt.total), err, tt.shown, tt.want)
		}
	}
	for _, text := range []string{"", "%", "-1%", "NaN%", "101%", "x%"} {
		if got, err := ParseRoom(text); err == nil {
			t.Errorf("ParseRoom(%q) = %v, want an error", text, got)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 5 * time.Minute: "5m", 24 * time.Hour: "24h", 90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s", 20 * time.Millisecond: "20ms",
		10 * time.Minute: "10m", 30 * time.Second: "30s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %s, want %s", d, got, want)
		}
		if again, err := parseDuration(formatDuration(d)); again != d || err != nil {
			t.Errorf("parseDuration(%s) = %s, %v", formatDuration(d), again, err)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"listen", "upstreams", "storage", "log"}
	for word, want := range map[string]string{"upstrems": "upstreams", "sotrage": "storage", "lgo": "log", "listn": "listen"} {
		if got, ok := similar(word, words); got != want || !ok {
			t.Errorf("similar(%q) = %q, %v; want %q", word, got, ok, want)
		}
	}
	if got, ok := similar("entirely", words); ok {
		t.Errorf("similar(entirely) = %q, want none", got)
	}
	if got := editDistance("abcd", "badc"); got != 2 {
		t.Errorf("editDistance(abcd, badc) = %d, want 2: two swaps", got)
	}
}
