package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage/storagetest"
)

// TestReadyTellsHealth holds that readiness is not a matter of what ?verbose
// tells.
func TestReadyTellsHealth(t *testing.T) {
	s := New(Options{
		Store: storagetest.NewStore(t), Gatherer: prometheus.NewRegistry(),
		Health: func() []Health {
			return []Health{
				{Name: "upstream a https://a.example", State: "ok"},
				{Name: "upstream b https://b.example", State: "down", Left: 7 * time.Second, Why: "connection refused"},
			}
		},
	})
	for path, want := range map[string]string{
		"/readyz": "ok\n",
		"/readyz?verbose": "ok\nupstream a https://a.example: ok\n" +
			"upstream b https://b.example: down, for another 7s: connection refused\n",
	} {
		w := httptest.NewRecorder()
		s.Public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, strings.NewReader("")))
		if got := w.Body.String(); w.Code != http.StatusOK || got != want {
			t.Errorf("%s: %d %q, want %q", path, w.Code, got, want)
		}
	}
}
