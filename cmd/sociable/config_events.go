package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sociable/sociable/events"
	"github.com/sociable/sociable/internal/oci"
)

func defaultEndpoint() EventEndpoint {
	return EventEndpoint{
		Timeout: 5 * time.Second, Threshold: 10, Backoff: time.Second, MaxBackoff: time.Minute, RefusedFor: 5 * time.Minute, Version: "v1",
	}
}

// readTokens takes in the files that endpoints name.
func (c *Config) readTokens(bad *findings) {
	for i := range c.Events.Endpoints {
		e := &c.Events.Endpoints[i]
		if e.TokenFile == "" {
			continue
		}
		path := fmt.Sprintf("events.endpoints[%d].token_file", i)
		text, err := os.ReadFile(e.TokenFile)
		if e.token = strings.TrimSpace(string(text)); err == nil && e.token == "" {
			err = fmt.Errorf("%s is empty", e.TokenFile)
		}
		if err != nil {
			bad.add(c.origin(path), "%s: %v", path, err)
		}
	}
}

func (c *Config) checkEvents(bad, doubts *findings) {
	if c.Events.MaxQueue < 1 {
		bad.add(c.origin("events.max_queue"), "events.max_queue: want at least 1")
	}
	names := map[string]string{}
	for i := range c.Events.Endpoints {
		e, path := &c.Events.Endpoints[i], fmt.Sprintf("events.endpoints[%d]", i)
		switch other, taken := names[e.Name]; {
		case !nameGrammar.MatchString(e.Name):
			bad.add(c.origin(path+".name"), "%s.name: %q is not a name; use lower-case letters, digits, and single . _ or - between them", path, e.Name)
		case taken:
			bad.add(c.origin(path+".name"), "%s.name: %q is taken by %s", path, e.Name, c.where(other))
		default:
			names[e.Name] = path + ".name"
		}
		c.checkEndpointURL(e, path, bad, doubts)
		if _, err := e.header(); err != nil {
			bad.add(c.origin(path+".headers"), "%s.headers: %v", path, err)
		}
		c.checkPositive(path+".timeout", e.Timeout, bad)
		c.checkPositive(path+".backoff", e.Backoff, bad)
		c.checkPositive(path+".refused_for", e.RefusedFor, bad)
		if e.MaxBackoff < e.Backoff {
			bad.add(c.origin(path+".max_backoff"), "%s.max_backoff: want at least backoff, %s", path, formatDuration(e.Backoff))
		}
		if e.Threshold < 1 {
			bad.add(c.origin(path+".threshold"), "%s.threshold: want at least 1", path)
		}
		for j, a := range e.IgnoreActions {
			if !slices.Contains(oci.EventKinds, oci.EventKind(a)) {
				bad.add(c.origin(fmt.Sprintf("%s.ignore_actions[%d]", path, j)), "%s.ignore_actions: there is no %q; there are %s", path, a, joinKinds())
			}
		}
	}
}

// checkEndpointURL quotes no URL: its path or query may be a secret.
func (c *Config) checkEndpointURL(e *EventEndpoint, path string, bad, doubts *findings) {
	at := c.origin(path + ".url")
	u, err := url.Parse(e.URL)
	switch {
	case e.URL == "":
		bad.add(c.origin(path), "%s.url: is missing", path)
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		bad.add(at, "%s.url: is not an address; write https://host/path", path)
	case u.User != nil:
		bad.add(at, "%s.url: must not hold a user or password; use headers or token_file", path)
	case u.Scheme == "http" && (len(e.Headers) > 0 || e.TokenFile != "") && !isLoopback(u.Hostname()):
		doubts.add(at, "%s.url: its headers cross the network readable, over http", path)
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func joinKinds() string {
	var words []string
	for _, k := range oci.EventKinds {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// headerName is a token (RFC 9110 §5.6.2).
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// header is what an endpoint's requests carry. An error quotes no value.
func (e *EventEndpoint) header() (http.Header, error) {
	h := http.Header{}
	for i, line := range e.Headers {
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !headerName.MatchString(name) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, fmt.Errorf("number %d is not a header; write \"Name: value\"", i+1)
		}
		h.Add(name, value)
	}
	if e.token != "" {
		h.Set("Authorization", "Bearer "+e.token)
	}
	return h, nil
}

// eventEndpoints are those of a configuration that was checked.
func eventEndpoints(cfg *Config) ([]events.Endpoint, error) {
	var out []events.Endpoint
	for i := range cfg.Events.Endpoints {
		e := &cfg.Events.Endpoints[i]
		h, err := e.header()
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.Name, err)
		}
		to := events.Endpoint{
			Name: e.Name, URL: e.URL, Headers: h, Timeout: e.Timeout, Threshold: e.Threshold,
			Backoff: e.Backoff, MaxBackoff: e.MaxBackoff, RefusedFor: e.RefusedFor, IgnoreMediaTypes: e.IgnoreMediaTypes, MediaType: events.MediaTypeV1,
		}
		if e.Version == "v2" {
			to.MediaType = events.MediaTypeV2
		}
		for _, a := range e.IgnoreActions {
			to.IgnoreKinds = append(to.IgnoreKinds, oci.EventKind(a))
		}
		out = append(out, to)
	}
	return out, nil
}
