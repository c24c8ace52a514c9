package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/sociable/sociable/internal/access"
)

// HookConfig lets an upstream tell of what is pushed to it.
type HookConfig struct {
	Secret     string `yaml:"secret" secret:"true"` // as configured: see UpstreamConfig.hookSecrets
	SecretFile string `yaml:"secret_file"`          // a secret on each line, any of which will do
}

// minSecret is how long a secret is at least: nobody counts who tries others.
const minSecret = 16

// readHook takes in the secrets of an upstream's hook.
func (u *UpstreamConfig) readHook() *fileError {
	u.hookSecrets = nil
	if u.Hook.Secret != "" {
		u.hookSecrets = []string{u.Hook.Secret}
	}
	if u.Hook.SecretFile == "" {
		return nil
	}
	body, err := os.ReadFile(u.Hook.SecretFile)
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line != "" {
			u.hookSecrets = append(u.hookSecrets, line)
		}
	}
	if err == nil && len(u.hookSecrets) == 0 {
		err = fmt.Errorf("%s is empty", u.Hook.SecretFile)
	}
	if err != nil {
		return &fileError{"hook.secret_file", err}
	}
	return nil
}

func (c *Config) checkHook(name string, bad, doubts *findings) {
	u, path := c.Upstreams[name], "upstreams."+name+".hook"
	if u.Hook.Secret != "" && u.Hook.SecretFile != "" {
		bad.add(c.origin(path+".secret_file"), "%s: has both secret and secret_file; keep one", path)
	}
	c.doubtHook(name, doubts)
	for _, s := range u.hookSecrets {
		if len(s) < minSecret {
			key := ".secret"
			if u.Hook.SecretFile != "" {
				key = ".secret_file"
			}
			bad.add(c.origin(path+key), "%s: a secret has at least %d characters, as from: openssl rand -hex 20", path+key, minSecret)
		}
	}
}

// doubtHook finds a hook of an upstream from which nothing that it tells of can be
// fetched.
func (c *Config) doubtHook(name string, doubts *findings) {
	u, path := c.Upstreams[name], "upstreams."+name+".hook"
	if u.Hook == (HookConfig{}) {
		return
	}
	switch {
	case c.Offline || u.Offline:
		doubts.add(c.origin(path), "%s: has no effect, because an upstream that is offline by configuration is not asked for what was pushed to it", path)
	case c.mode(name) == access.Passthrough:
		doubts.add(c.origin(path), "%s: of what it tells only that is indexed which the upstream gives to everybody: with access: passthrough it is asked in the name of whoever pulls, and nobody pulls then", path)
	}
}

// hookSecrets are those of each upstream that has a hook.
func hookSecrets(cfg *Config) map[string][]string {
	m := map[string][]string{}
	for name, u := range cfg.Upstreams {
		if len(u.hookSecrets) > 0 {
			m[name] = u.hookSecrets
		}
	}
	return m
}
