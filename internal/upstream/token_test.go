package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestTokensAreRenewedBeforeTheyExpire: a token is used no longer than for as long
// as a request that is sent with it may take.
func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	for _, tt := range []struct {
		says string
		used time.Duration
	}{
		{`"expires_in":300`, 270 * time.Second},
		{`"expires_in":60`, 45 * time.Second},
		{`"expires_in":4`, 3 * time.Second},
		{`"issued_at":"2020-01-01T00:00:00Z"`, 45 * time.Second}, // the specification's minute; their clock counts for nothing
		{`"expires_in":-5`, 45 * time.Second},
		{`"expires_in":31536000`, 24*time.Hour - 30*time.Second},
	} {
		ts, reg := newTokenService(t, (*httptest.Server).Start), newRegistry(t)
		guarded(reg, ts)
		ts.hook = func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, fmt.Sprintf(`{"token":"x",%s}`, tt.says))
			return true
		}
		a := newClient(t, reg.URL).ends[0].auth
		before := time.Now()
		if _, err := a.authorize(t.Context(), repo, false); err != nil {
			t.Fatalf("%s: %v", tt.says, err)
		}
		until := a.tokens[repo].until
		if until.Before(before.Add(tt.used)) || until.After(time.Now().Add(tt.used)) {
			t.Errorf("%s: used for %v, want %v", tt.says, until.Sub(before), tt.used)
		}
	}
}
