package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sociable/sociable/e2e/harness"
)

// findPeers finds the programs to compare with, which are Debian's.
func (b *bench) findPeers() error {
	var missing []error
	for _, p := range []struct {
		path    *string
		program string
	}{{&b.nginxPath, "nginx"}, {&b.distributionPath, "docker-registry"}, {&b.setprivPath, "setpriv"}} {
		var err error
		if *p.path, err = exec.LookPath(p.program); err != nil {
			*p.path, err = exec.LookPath("/usr/sbin/" + p.program) // not in everybody's PATH
		}
		if err != nil {
			pkg := map[string]string{"setpriv": "util-linux"}[p.program]
			if pkg == "" {
				pkg = p.program
			}
			missing = append(missing, fmt.Errorf("%s is missing: install Debian's package %s", p.program, pkg))
		}
	}
	return errors.Join(missing...)
}

// startNginx runs nginx as a caching proxy, set up for blobs as well as it can
// be: slices, a lock for each, stale manifests while they are looked up again.
// With tcp_nopush the last part of a ranged answer waits for the client's
// delayed acknowledgement, 40 ms.
func (b *bench) startNginx(ctx context.Context, s *server, c conditions) error {
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	ttl := c.tagTTL
	if ttl == 0 {
		ttl = 5 * time.Minute // as sociable's
	}
	config := filepath.Join(s.dir, "nginx.conf")
	body := fmt.Sprintf(nginxConfig, s.dir, addr, s.link.Addr(), int(ttl.Seconds()))
	if os.Geteuid() == 0 { // or the workers would be somebody who may not write here
		body = "user root;\n" + body
	}
	if err := os.WriteFile(config, []byte(body), 0o600); err != nil {
		return err
	}
	// The kernel ends a process of ours with ours. Killed outright, nginx would
	// leave its workers behind; on SIGTERM it ends them.
	s.proc, err = harness.Spawn(b.life, nil, b.setprivPath, "--pdeathsig", "TERM", b.nginxPath, "-p", s.dir, "-c", config)
	if err != nil {
		return err
	}
	s.addr = addr
	return s.await(ctx)
}

const nginxConfig = `daemon off;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/temp;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  proxy_cache_path %[1]s/cache levels=1:2 keys_zone=blobs:16m max_size=20g inactive=24h use_temp_path=off;
  upstream registry { server %[3]s; keepalive 64; }
  server {
    listen %[2]s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_cache blobs;
    proxy_cache_lock on;
    add_header X-Cache $upstream_cache_status;
    location ~ ^/v2/.+/blobs/ {
      slice 1m;
      proxy_set_header Range $slice_range;
      proxy_cache_key $uri$slice_range;
      proxy_cache_valid 200 206 24h;
      proxy_pass http://registry;
    }
    location / {
      proxy_cache_key $uri$http_accept;
      proxy_cache_valid 200 %[4]ds;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
      proxy_cache_background_update on;
      proxy_pass http://registry;
    }
  }
}
`

// startDistribution runs distribution's registry as a pull-through proxy.
func (b *bench) startDistribution(ctx context.Context, s *server) error {
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	config := filepath.Join(s.dir, "config.yml")
	body := fmt.Sprintf(distributionConfig, filepath.Join(s.dir, "data"), addr, s.link.URL())
	if err := os.WriteFile(config, []byte(body), 0o600); err != nil {
		return err
	}
	s.proc, err = harness.Spawn(b.life, []string{"OTEL_TRACES_EXPORTER=none"}, b.distributionPath, "serve", config)
	if err != nil {
		return err
	}
	s.addr = addr
	return s.await(ctx)
}

const distributionConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
http: {addr: %q}
proxy: {remoteurl: %q}
`
