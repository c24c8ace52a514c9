package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/sociable/sociable/internal/upstream"
)

// sources are what a configuration is read from, the later over the earlier.
type sources struct {
	File      string     // path of config.yml, "" for none
	Environ   []string   // as os.Environ has it
	Upstreams []string   // NAME=URL, added to or replacing the URL of what is configured
	Hosted    []string   // names, added to what is configured
	Flags     []override // those that were given
}

// override is one value given from outside the file.
type override struct{ flag, path, value string }

// load reads, completes and checks a configuration. Warnings are for people
// who ask whether it is sound; the error has a line for each mistake.
func load(src sources) (c *Config, warnings []string, err error) {
	c = Default()
	bad, doubts := &findings{}, &findings{}
	if src.File != "" {
		body, err := os.ReadFile(src.File)
		if err != nil {
			return nil, nil, fmt.Errorf("read the configuration: %w", err)
		}
		c.decode(src.File, bytes.NewReader(body), bad)
	}
	given := c.addUpstreams(src.Upstreams, bad) // before the environment, which may have more of them
	c.addHosted(src.Hosted)
	c.applyEnviron(src.Environ, bad)
	for name, url := range given {
		c.Upstreams[name].URL = url
		c.origins["upstreams."+name+".url"] = origin{source: upstreamFlag}
	}
	for _, o := range src.Flags {
		at := origin{source: o.flag}
		for _, l := range c.leaves() {
			if l.path == o.path {
				c.set(l, o.value, at, bad)
			}
		}
	}
	c.complete(bad)
	c.check(bad, doubts)
	return c, doubts.lines(), bad.err()
}

// set gives one key a value from outside the file.
func (c *Config) set(l leaf, value string, at origin, bad *findings) {
	c.origins[l.path] = at
	if err := setScalar(l.v, l.enum, value); err != nil {
		bad.add(at, "%v", err)
	}
}

const upstreamFlag = "--upstream"

// addUpstreams takes the arguments of --upstream: those that are new exist from
// here on. The URLs it gives, by name, are the last word on them.
func (c *Config) addUpstreams(args []string, bad *findings) map[string]string {
	at := origin{source: upstreamFlag}
	given := make(map[string]string, len(args))
	for _, arg := range args {
		name, url, ok := strings.Cut(arg, "=")
		if !ok || name == "" || url == "" {
			bad.add(at, "want NAME=URL, such as mirror=http://127.0.0.1:5005")
			continue
		}
		if c.Upstreams[name] == nil {
			c.Upstreams[name] = defaultUpstream(name)
			c.origins["upstreams."+name] = at
		}
		given[name] = url
	}
	return given
}

const envPrefix = "SOCIABLE_"

// envName is the variable that overrides the key at path.
func envName(path string) string {
	return envPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z':
			return r
		default:
			return '_'
		}
	}, path)
}

// serviceVariable matches what Kubernetes puts into each container of a
// namespace that has a Service named sociable: its address, by the environment
// variables and Docker links of kubernetes.io/docs/concepts/services-networking.
var serviceVariable = regexp.MustCompile(`^` + envPrefix + `(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// applyEnviron takes every SOCIABLE_ variable that is for it.
func (c *Config) applyEnviron(environ []string, bad *findings) {
	byName := map[string][]leaf{}
	var names []string
	for _, l := range c.leaves() {
		name := envName(l.path)
		if byName[name] = append(byName[name], l); len(byName[name]) == 1 && isScalar(l.v.Type()) {
			names = append(names, name)
		}
	}
	for _, kv := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		at, ls := origin{source: name}, byName[name]
		switch {
		case len(ls) == 0 && (serviceVariable.MatchString(name) || name == proxyVariable):
		case len(ls) == 0:
			near, _ := nearest(name, names)
			bad.add(at, "no such setting; did you mean %s?", near)
		case len(ls) > 1:
			bad.add(at, "could be %s as well as %s; set it in the file", ls[0].path, ls[1].path)
		case !isScalar(ls[0].v.Type()):
			bad.add(at, "%s is a list; set it in the file", ls[0].path)
		default:
			c.set(ls[0], value, at, bad)
		}
	}
}

// complete settles what depends on several keys or on other files.
func (c *Config) complete(bad *findings) {
	if _, given := c.origins["default_upstream"]; !given && c.Upstreams[c.DefaultUpstream] == nil {
		c.DefaultUpstream = "" // a closed world without Docker Hub has no default unless it says so
	}
	c.completeHosted()
	if err := c.openAuth(slog.New(slog.DiscardHandler)); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			bad.add(c.origin("auth."+err.key), "auth.%s: %s", err.key, line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		for _, err := range c.Upstreams[name].readFiles() {
			path := "upstreams." + name + "." + err.key
			bad.add(c.origin(path), "%s: %v", path, err.error)
		}
	}
	c.readTokens(bad)
	c.readTrusted(bad)
}

// fileError is what is wrong with the file that a key names.
type fileError struct {
	key string
	error
}

// readFiles takes in the files that an upstream's keys name, and says what is
// wrong with any of them.
func (u *UpstreamConfig) readFiles() (bad []*fileError) {
	for _, read := range []func() *fileError{u.readPassword, u.readCA, u.readDockerConfig, u.readHook, u.readClientCert} {
		if err := read(); err != nil {
			bad = append(bad, err)
		}
	}
	return bad
}

// readDockerConfig looks whether what is read whenever it is needed can be.
func (u *UpstreamConfig) readDockerConfig() *fileError {
	if u.Keychain != "docker" {
		return nil
	}
	if err := upstream.CheckDockerConfig(u.DockerConfig); err != nil {
		return &fileError{"docker_config", err}
	}
	return nil
}

func (u *UpstreamConfig) readPassword() *fileError {
	u.password = u.Password
	if u.PasswordFile != "" {
		secret, err := os.ReadFile(u.PasswordFile)
		if u.password = strings.TrimRight(string(secret), "\r\n"); err == nil && u.password == "" {
			err = fmt.Errorf("%s is empty", u.PasswordFile)
		}
		if err != nil {
			return &fileError{"password_file", err}
		}
	}
	return nil
}

func (u *UpstreamConfig) readCA() *fileError {
	if u.CAFile != "" {
		pem, err := os.ReadFile(u.CAFile)
		u.rootCAs = x509.NewCertPool()
		if !u.rootCAs.AppendCertsFromPEM(pem) && err == nil {
			err = fmt.Errorf("%s holds no PEM certificate", u.CAFile)
		}
		if err != nil {
			return &fileError{"ca_file", err}
		}
	}
	return nil
}
