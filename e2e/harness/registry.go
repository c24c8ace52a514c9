package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Registry is an upstream registry as a process, on plain HTTP.
type Registry struct {
	*Process
	Addr string // host:port
}

// URL is the registry's http://host:port.
func (r *Registry) URL() string { return "http://" + r.Addr }

// StartRegistry runs distribution's registry, version 2.8 or 3, over the files
// in root. Several may share a root as long as one writes. more are further lines
// of its configuration.
func StartRegistry(ctx context.Context, program, root string, more ...string) (*Registry, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	debug, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "e2e-registry-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, registryConfig+strings.Join(more, "\n"), root, addr, debug), 0o600); err != nil {
		return nil, err
	}
	p, err := Spawn(ctx, []string{"OTEL_TRACES_EXPORTER=none"}, program, "serve", config)
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, "http://"+addr+"/v2/")
	_ = os.RemoveAll(dir) // it has been read
	if err != nil {
		p.Kill()
		return nil, err
	}
	return &Registry{Process: p, Addr: addr}, nil
}

const registryConfig = `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
http:
  addr: %q
  debug: {addr: %q}
`
