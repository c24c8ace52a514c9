package upstream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// DockerKeychain is what a Docker client would log in with: passwords, identity
// tokens and credential helpers of the configuration in file, which is read
// whenever it is needed. Without file it is where Docker and podman look for it.
func DockerKeychain(file string) authn.Keychain {
	if file == "" {
		return authn.DefaultKeychain
	}
	return dockerFile(file)
}

// CheckDockerConfig is what is wrong with the configuration in file; "" is where
// Docker looks for it, and may not be there.
func CheckDockerConfig(file string) error {
	if file == "" {
		file = filepath.Join(config.Dir(), config.ConfigFileName)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	_, err := dockerFile(file).load()
	return err
}

type dockerFile string

func (f dockerFile) load() (*configfile.ConfigFile, error) {
	in, err := os.Open(string(f))
	if err != nil {
		return nil, fmt.Errorf("read docker_config: %w", err)
	}
	defer in.Close()
	cfg, err := config.LoadFromReader(in)
	if err != nil {
		return nil, fmt.Errorf("read docker_config %s: %w", string(f), err)
	}
	return cfg, nil
}

func (f dockerFile) Resolve(r authn.Resource) (authn.Authenticator, error) {
	cfg, err := f.load()
	if err != nil {
		return nil, err
	}
	host := r.RegistryStr()
	if host == name.DefaultRegistry {
		host = authn.DefaultAuthKey
	}
	auth, err := cfg.GetAuthConfig(host)
	if err != nil {
		return nil, fmt.Errorf("read docker_config %s for %s: %w", string(f), host, err)
	}
	auth.ServerAddress = "" // set in any case
	if auth == (types.AuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: auth.Username, Password: auth.Password, Auth: auth.Auth,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}), nil
}
