package upstream

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// stuckKeychain does not answer before it is let.
type stuckKeychain struct{ asked, let chan struct{} }

func (k stuckKeychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	close(k.asked)
	<-k.let
	return authn.Anonymous, nil
}

// TestStuckKeychain: whoever leaves does not wait for a keychain that knows no
// contexts.
func TestStuckKeychain(t *testing.T) {
	reg := newRegistry(t)
	reg.manifests["v1"] = []byte(manifestBody)
	reg.hook = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	k := stuckKeychain{make(chan struct{}), make(chan struct{})}
	c := newClient(t, reg.URL, func(o *Options) { o.Keychain = k })
	ctx, leave := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := c.Manifest(ctx, repo, tag("v1"))
		got <- err
	}()
	<-k.asked
	leave()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(k.let)
}
