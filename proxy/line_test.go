package proxy

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestLineIsShort: a caller does not decide how long a request's line gets.
func TestLineIsShort(t *testing.T) {
	for name, path := range map[string]string{
		"name":  "/v2/up/" + strings.Repeat("a", 60_000) + "/tags/list",
		"range": "/v2/up/a/blobs/sha256:" + strings.Repeat("0", 64),
		"route": "/" + strings.Repeat("é", 30_000),
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			s := newServer(t, newRegistry(t), func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Header.Set("Range", "bytes=0-1"+strings.Repeat(",2-3", 3000))
			s.p.ServeHTTP(httptest.NewRecorder(), r)
			got := log.requests(t)
			if len(got) != 1 {
				t.Fatalf("%d lines, want 1", len(got))
			}
			line, err := json.Marshal(got[0])
			if err != nil || len(line) > 5000 {
				t.Errorf("the line has %d bytes, %v: %.200s", len(line), err, line)
			}
		})
	}
}
