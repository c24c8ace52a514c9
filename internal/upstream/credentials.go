package upstream

import (
	"context"
	"fmt"
	"net/url"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// credentials are what the registry at URL is asked with.
func (o Options) credentials() authn.Authenticator {
	switch {
	case o.Keychain != nil:
		return keyed{o.Keychain, o.URL}
	case o.Username != "":
		return &authn.Basic{Username: o.Username, Password: o.Password}
	default:
		return authn.Anonymous
	}
}

// keyed looks into a keychain whenever it is asked: what is in there expires,
// and is changed.
type keyed struct {
	chain authn.Keychain
	url   *url.URL
}

// dockerHubHost is where Docker Hub's registry is; its credentials are filed
// under another name (name.DefaultRegistry).
const dockerHubHost = "registry-1.docker.io"

func (k keyed) resolve(ctx context.Context) (authn.Authenticator, error) {
	host := k.url.Host
	if host == dockerHubHost {
		host = name.DefaultRegistry
	}
	reg, err := name.NewRegistry(host)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", host, err)
	}
	return authn.Resolve(ctx, k.chain, reg)
}

func (k keyed) Authorization() (*authn.AuthConfig, error) {
	return k.AuthorizationContext(context.Background())
}

func (k keyed) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	auth, err := k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return authn.Authorization(ctx, auth)
}

// who is in whose name the upstream is asked now: authn.Anonymous where the
// keychain has nothing for it.
func (a *authorizer) who(ctx context.Context) (authn.Authenticator, error) {
	k, ok := a.creds.(keyed)
	if !ok {
		return a.creds, nil
	}
	auth, err := k.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the credentials for upstream %s: %w", a.upstream, err)
	}
	return auth, nil
}
