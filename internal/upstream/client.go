package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
)

// Options describe one upstream. A zero field means what its comment says.
type Options struct {
	Name string   // as configured: for errors, logs and metrics
	URL  *url.URL // http or https, host and port; nothing behind it

	// Mirrors are asked before URL, in this order, whichever of them answer: URL
	// has the last word. Behind the host there may be a path, which is put in
	// front of repositories' names there. Username and Password, TokenRealms,
	// Header, Certificates and InsecureSkipVerify are URL's alone; Keychain is
	// asked for each host, and RootCAs are trusted at all.
	Mirrors []*url.URL

	Offline bool // nothing is ever dialled: every question is answered with ErrOffline

	Username, Password string         // "": the upstream is read anonymously
	Keychain           authn.Keychain // nil: Username and Password; it is asked whenever a token or request needs it
	TokenRealms        []string       // hosts, or host:port, that may see them besides the upstream's own registrable domain

	CallersPush bool // who logs in by a Caller may push, too, if the upstream lets them

	MaxConnections int // requests at once, transfers included; 0: 64
	MaxTransfers   int // transfers of blobs at once; 0: MaxConnections less an eighth, so that the check of a tag need not wait until a layer has passed

	RequestsPerMinute int   // 0: any number
	BytesPerSecond    int64 // 0: any number

	DialTimeout   time.Duration // to make a connection; 0: 5 s
	HeaderTimeout time.Duration // from a request to the headers of its answer, redirects included; 0: 10 s
	StallTimeout  time.Duration // a transfer without a byte for so long is dead; 0: 5 s

	// A request without a usable answer is repeated Retries times (0: 3; < 0:
	// never). The first pause is Backoff (0: 100 ms) and the pauses double up
	// to MaxBackoff (0: 5 s), each less a random part up to its half. An
	// upstream that asks for a longer pause than MaxBackoff is not asked again.
	Retries    int
	Backoff    time.Duration
	MaxBackoff time.Duration

	// After BreakerFailures failures in a row (0: 5), or two of which the second
	// got no answer at all for HeaderTimeout, nothing is asked for BreakerPause
	// (0: 10 s); then one request finds out whether the upstream is back. Each time
	// that it is not, the pause is twice as long, up to six times the first.
	BreakerFailures int
	BreakerPause    time.Duration

	RootCAs            *x509.CertPool                        // nil: the system's
	Certificates       []tls.Certificate                     // what we show URL's host, if it asks for one
	InsecureSkipVerify bool                                  // of URL's host: all others are verified
	Proxy              func(*http.Request) (*url.URL, error) // nil: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment
	Header             http.Header                           // sent with every request to the upstream itself, over ours
	UserAgent          string                                // "": sociable

	Wrap func(http.RoundTripper) http.RoundTripper // around all requests and their redirects; nil: nothing is

	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is exported
}

// Client asks one upstream registry. Its methods may be called from many
// goroutines. Repository names are checked against the specification's grammar
// before they become part of a URL.
//
// Every error of its methods but a caller's cancelled context and a mistake in
// the arguments can be told by IsNotFound, IsDenied, IsUnavailable, ErrDigest
// and RangeError.
type Client struct {
	opt     Options
	log     *slog.Logger
	metrics *metrics
	ends    []*endpoint // in the order in which they are asked
	budget  *budget
	senders *senders
	closed  *atomic.Bool

	all  *slots // one for each request under way
	bulk *slots // of which so many may be transfers of blobs; taken before all
}

// New makes a client. It dials nothing: an upstream may be down, and the client
// finds out by itself when it is back. An error means wrong Options; naming the
// upstream is left to the caller.
func New(o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, o.Name)
	if err != nil {
		return nil, fmt.Errorf("register the metrics: %w", err)
	}
	c := &Client{
		opt: o, log: o.Logger.With("upstream", o.Name), metrics: m, budget: newBudget(o.BytesPerSecond), senders: newSenders(), closed: new(atomic.Bool),
		all:  newSlots(o.MaxConnections),
		bulk: newSlots(o.MaxTransfers),
	}
	for _, u := range append(slices.Clone(o.Mirrors), o.URL) {
		em, err := newEndpointMetrics(o.Registerer, o.Name, u.Host+u.Path)
		if err != nil {
			return nil, fmt.Errorf("register the metrics: %w", err)
		}
		c.ends = append(c.ends, newEndpoint(c, o.at(u), em))
	}
	return c, nil
}

// Name is the upstream's configured name.
func (c *Client) Name() string { return c.opt.Name }

// HasCredentials reports whether the upstream is asked in somebody's name.
func (c *Client) HasCredentials() bool { return c.opt.Username != "" || c.opt.Keychain != nil }

// Close gives idle connections back, and its callers have to log in at another
// client. Transfers under way go on.
func (c *Client) Close() {
	c.closed.Store(true)
	for _, e := range c.ends {
		e.closeIdle()
	}
}

// at is what a client of one of the addresses needs: mirrors may be anybody's.
func (o Options) at(u *url.URL) Options {
	if u != o.URL {
		o.Username, o.Password, o.TokenRealms = "", "", nil
		o.Header, o.Certificates, o.InsecureSkipVerify = nil, nil, false
	}
	o.URL, o.Mirrors = u, nil
	return o
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v    *time.Duration
		dflt time.Duration
	}{
		{&o.DialTimeout, 5 * time.Second}, {&o.HeaderTimeout, 10 * time.Second}, {&o.StallTimeout, 5 * time.Second},
		{&o.Backoff, 100 * time.Millisecond}, {&o.MaxBackoff, 5 * time.Second}, {&o.BreakerPause, 10 * time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.dflt
		}
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 64
	}
	if o.MaxTransfers <= 0 {
		o.MaxTransfers = o.MaxConnections - o.MaxConnections/8
	}
	o.MaxTransfers = min(o.MaxTransfers, o.MaxConnections)
	if o.BreakerFailures <= 0 {
		o.BreakerFailures = 5
	}
	if o.Retries == 0 {
		o.Retries = 3
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.UserAgent == "" {
		o.UserAgent = "sociable"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) check() error {
	switch u := o.URL; {
	case u == nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return errors.New("its URL is not http:// or https:// and a host")
	case u.User != nil:
		return errors.New("credentials don't belong into its URL")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("its URL must end behind the host")
	case o.Username != "" && o.Keychain != nil:
		return errors.New("it has both a user name and a keychain")
	case (o.Username == "") != (o.Password == ""):
		return errors.New("a user name needs a password and a password a user name")
	}
	for _, u := range o.Mirrors {
		prefix := strings.Trim(u.Path, "/")
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("a mirror is not http:// or https://, a host and at most a path")
		}
		if prefix != "" && oci.CheckName(prefix) != nil {
			return errors.New("a mirror's path is not the beginning of a repository's name")
		}
	}
	return nil
}

func newTransport(o Options, g *guard) *http.Transport {
	// A connection that died silently under HTTP/2 must be found out, or every
	// resumption would be sent along the same dead connection.
	ping := max(o.StallTimeout/2, time.Second)
	var show func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	if len(o.Certificates) > 0 {
		show = (&shown{certs: o.Certificates, log: o.Logger.With("upstream", o.Name)}).choose
	}
	return &http.Transport{
		Proxy:       g.proxyFor,
		DialContext: g.dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs,
			GetClientCertificate: show,

			InsecureSkipVerify: o.InsecureSkipVerify, // only where the operator said so
		},
		TLSHandshakeTimeout:    o.HeaderTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: ping},
		DisableCompression:     true, // blobs are wanted as their digest has them
		MaxIdleConns:           o.MaxConnections,
		MaxIdleConnsPerHost:    o.MaxConnections,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         16 << 10, // for headers: what is read of a body goes past it
	}
}
