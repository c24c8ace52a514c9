package web

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/sociable/sociable/internal/oci"
)

// TestGrace: a time that can't be meant, or not be counted with, is never taken for
// none, since what was pushed this moment would go.
func TestGrace(t *testing.T) {
	for seconds, want := range map[float64]time.Duration{
		0: 0, 0.5: 500 * time.Millisecond, 3600: time.Hour, maxGrace.Seconds(): maxGrace,
		-1: -1, 1e10: -1, 1e300: -1, math.Inf(1): -1,
	} {
		got, err := GCRequest{GraceSeconds: &seconds}.grace()
		switch {
		case want < 0 && (err == nil || oci.AsError(err).HTTPStatus() != http.StatusBadRequest):
			t.Errorf("%v s: %v, %v, want a 400", seconds, got, err)
		case want >= 0 && (err != nil || got != want):
			t.Errorf("%v s: %v, %v, want %v", seconds, got, err, want)
		}
	}
}
