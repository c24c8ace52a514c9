package upstream

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sync/singleflight"
)

// credentials are what the registry at URL is asked with.
func (o Options) credentials() authn.Authenticator {
	switch {
	case o.Keychain != nil:
		return keyed{o.Keychain, o.URL, new(singleflight.Group)}
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
	same  *singleflight.Group
}

// keychainTime bounds a look into a keychain: most take no context, and may ask a
// cloud, or run a program.
const keychainTime = 30 * time.Second

// dockerHubHost is where Docker Hub's registry is; its credentials are filed
// under another name (name.DefaultRegistry).
const dockerHubHost = "registry-1.docker.io"

// resolve gives what is in the keychain now. Whoever leaves meanwhile, or waited
// for keychainTime, leaves the look to those who come later.
func (k keyed) resolve(ctx context.Context) (authn.Authenticator, error) {
	ctx, cancel := context.WithTimeout(ctx, keychainTime)
	defer cancel()
	ch := k.same.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keychainTime)
		defer cancel()
		return k.look(ctx)
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(authn.Authenticator), nil //nolint:forcetypeassert // it is what look gives
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the keychain: %w", context.Cause(ctx))
	}
}

func (k keyed) look(ctx context.Context) (authn.Authenticator, error) {
	host := k.url.Host
	if host == dockerHubHost {
		host = name.DefaultRegistry
	}
	reg, err := name.NewRegistry(host)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", host, err)
	}
	auth, err := authn.Resolve(ctx, k.chain, reg)
	if err != nil || auth == authn.Anonymous {
		return auth, err
	}
	cfg, err := authn.Authorization(ctx, auth) // which may ask, too
	if err != nil {
		return nil, err
	}
	return authn.FromConfig(*cfg), nil
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
