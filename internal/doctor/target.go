package doctor

import (
	"fmt"
	"net"
	"strings"

	"github.com/distribution/reference"
)

// target is what is walked to.
type target struct {
	host string // with its port, as in the reference
	repo string // "": the walk ends at the registry's door
	tag  string // or digest
}

func parseTarget(s string) (target, error) {
	if !strings.Contains(s, "/") { // a host alone
		if s == "" || strings.ContainsAny(s, " @") {
			return target{}, fmt.Errorf("%q is neither an image nor a host", s)
		}
		return target{host: s}, nil
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return target{}, fmt.Errorf("%q: %w", s, err)
	}
	host := reference.Domain(named)
	if first, _, _ := strings.Cut(s, "/"); first != host {
		return target{}, fmt.Errorf("%q begins with no host: name the image as clients do, such as 127.0.0.1:5000/docker.io/library/redis:7", s)
	}
	t := target{host: host, repo: reference.Path(named)}
	switch n := reference.TagNameOnly(named).(type) {
	case reference.Digested:
		t.tag = n.Digest().String()
	case reference.Tagged:
		t.tag = n.Tag()
	}
	return t, nil
}

// name is the host without its port.
func (t target) name() string {
	if host, _, err := net.SplitHostPort(t.host); err == nil {
		return host
	}
	return t.host
}

// isLocal reports hosts that clients speak plain HTTP to without being told.
func (t target) isLocal() bool {
	n := strings.Trim(t.name(), "[]")
	if n == "localhost" {
		return true
	}
	ip := net.ParseIP(n)
	return ip != nil && ip.IsLoopback()
}

// address is where to connect to.
func (t target) address(scheme string) string {
	if _, _, err := net.SplitHostPort(t.host); err == nil {
		return t.host
	}
	port := "443"
	if scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(strings.Trim(t.host, "[]"), port)
}
