package main

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// Config is everything that can be configured: the defaults, overlaid by
// config.yml, by SOCIABLE_ environment variables and by flags, in that order.
// The yaml tags are the keys of config.yml, which says more about each; the
// enum tags list the values that a string may have. Paths are relative to the
// working directory.
type Config struct {
	Listen          string                     `yaml:"listen"`           // host:port of the registry
	Admin           AdminConfig                `yaml:"admin"`            //
	ShutdownTimeout time.Duration              `yaml:"shutdown_timeout"` // for open responses to finish; then they are cut
	Log             LogConfig                  `yaml:"log"`              //
	Storage         StorageConfig              `yaml:"storage"`          //
	Access          string                     `yaml:"access" enum:",open,passthrough"`
	Auth            AuthConfig                 `yaml:"auth"`             //
	TLS             TLSConfig                  `yaml:"tls"`              //
	Offline         bool                       `yaml:"offline"`          // no upstream is ever dialled
	DefaultUpstream string                     `yaml:"default_upstream"` // a key of Upstreams, or "" for none
	Upstreams       map[string]*UpstreamConfig `yaml:"upstreams"`        // by name; nothing else is ever dialled
	Hosted          map[string]*HostedConfig   `yaml:"hosted"`           // by name; nothing is pushed elsewhere
	Index           IndexConfig                `yaml:"index"`            //
	Referrers       ReferrersConfig            `yaml:"referrers"`        //
	Learn           LearnConfig                `yaml:"learn"`            //
	Prewarm         PrewarmConfig              `yaml:"prewarm"`          //
	Import          ImportConfig               `yaml:"import"`           //
	GC              GCConfig                   `yaml:"gc"`               //
	Uploads         UploadsConfig              `yaml:"uploads"`          //
	Retention       []RetentionRule            `yaml:"retention"`        // the first that matches a hosted repository counts
	Events          EventsConfig               `yaml:"events"`           //
	Tracing         TracingConfig              `yaml:"tracing"`          //

	onLoopback, adminOnLoopback bool // only this machine reaches Listen, Admin.Listen

	again func() (*Config, []string, error) // reads all of it again; nil: it can't be

	origins map[string]origin // where a key's value comes from, by its dotted path; absent: the default
}

// AdminConfig is the second listener: the dashboard, metrics and health.
type AdminConfig struct {
	Listen      string `yaml:"listen"`       // host:port, or "" for none
	TLS         bool   `yaml:"tls"`          // with the certificate of Config.TLS
	OpenMetrics bool   `yaml:"open_metrics"` // /metrics never needs a login
	Dashboard   bool   `yaml:"dashboard"`    // pages and the API for programs, and what they need to be known
	// Hosts are names besides this machine's own by which it is asked on loopback.
	Hosts []string `yaml:"hosts"`
}

// LogConfig is how the log reads.
type LogConfig struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error"`
	Format string `yaml:"format" enum:"text,json"`
}

// StorageConfig is where and how much is kept.
type StorageConfig struct {
	Path         string `yaml:"path"`      // folder; made when absent
	MaxBytes     Room   `yaml:"max_bytes"` // at most this is stored
	MinFree      Room   `yaml:"min_free"`  // and this is left free on the file system
	OnDisconnect string `yaml:"on_disconnect" enum:"finish,stop"`
	// A blob that is read by ranges is fetched whole after so many of them, or
	// once so many percent of it came; 0: never for that reason.
	FillAfterRanges  int `yaml:"fill_after_ranges"`
	FillAfterPercent int `yaml:"fill_after_percent"`
}

// FinishOnDisconnect reports whether a fetch goes on after its last client left.
func (s StorageConfig) FinishOnDisconnect() bool { return s.OnDisconnect == "finish" }

// UpstreamConfig is one registry that is proxied.
type UpstreamConfig struct {
	URL                string        `yaml:"url"`                    // scheme://host[:port], nothing behind it
	Offline            bool          `yaml:"offline"`                // never dialled
	Aliases            []string      `yaml:"aliases"`                // further first path segments that mean it
	Hosts              []string      `yaml:"hosts"`                  // virtual hosts bound to it: host names without port, lower case
	Username           string        `yaml:"username"`               //
	Password           string        `yaml:"password" secret:"true"` // as configured: see Credentials
	PasswordFile       string        `yaml:"password_file"`          //
	TokenRealms        []string      `yaml:"token_realms"`           // hosts that may see the credentials besides the upstream's own domain
	TagTTL             time.Duration `yaml:"tag_ttl"`                // a tag is not checked again for so long; 0: always checked
	TagTimeout         time.Duration `yaml:"tag_timeout"`            // then a cached tag is served as it is
	StallTimeout       time.Duration `yaml:"stall_timeout"`          // without a byte for so long, the transfer is taken up anew
	DialTimeout        time.Duration `yaml:"dial_timeout"`           // to connect
	HeaderTimeout      time.Duration `yaml:"header_timeout"`         // from a request to the headers of its answer
	Retries            int           `yaml:"retries"`                // of a request that got no usable answer
	MaxConnections     int           `yaml:"max_connections"`        // at once
	MaxTransfers       int           `yaml:"max_transfers"`          // of blobs at once; 0: seven eighths of MaxConnections
	RequestsPerMinute  int           `yaml:"requests_per_minute"`    // 0: any number
	BytesPerSecond     Bytes         `yaml:"bytes_per_second"`       // 0: any number
	BreakerFailures    int           `yaml:"breaker_failures"`       // in a row, and it is left alone
	BreakerPause       time.Duration `yaml:"breaker_pause"`          // for so long
	CAFile             string        `yaml:"ca_file"`                // PEM: see RootCAs
	InsecureSkipVerify bool          `yaml:"insecure_skip_verify"`   //
	Push               string        `yaml:"push" enum:",allow"`     // "": pushes to it are refused
	// Access: "" leaves it to Config.Access.
	Access string `yaml:"access" enum:",open,passthrough"`

	Mirrors        []string `yaml:"mirrors"`                             // asked before it: scheme://host[:port][/path]
	Keychain       string   `yaml:"keychain" enum:",docker,ecr,gcr,acr"` // where credentials come from instead
	DockerConfig   string   `yaml:"docker_config"`                       // "": where Docker and podman have theirs
	ClientCertFile string   `yaml:"client_cert_file"`                    // PEM, shown to who asks
	ClientKeyFile  string   `yaml:"client_key_file"`                     // PEM, the key of it
	Proxy          string   `yaml:"proxy"`                               // "", "none", or a URL
	Headers        []string `yaml:"headers" secret:"true"`               // "Name: value"

	// Hook lets it tell of pushes, by POST /hooks/NAME.
	Hook HookConfig `yaml:"hook"`

	hookSecrets []string       // that Hook names
	password    string         // Password, or what PasswordFile holds
	rootCAs     *x509.CertPool // what CAFile holds
	certs       []tls.Certificate
}

// Credentials are the upstream's user and password, from wherever they were
// configured. ok is false for an upstream that is read anonymously; one with a
// keychain is not, and has neither here.
func (u *UpstreamConfig) Credentials() (username, password string, ok bool) {
	return u.Username, u.password, u.Username != "" || u.Keychain != ""
}

// RootCAs are the certificates of ca_file, or nil for the system's own.
func (u *UpstreamConfig) RootCAs() *x509.CertPool { return u.rootCAs }

// IndexConfig is what is indexed.
type IndexConfig struct {
	Enabled bool `yaml:"enabled"`
	Workers int  `yaml:"workers"` // layers indexed from the store at once
	// PauseAbove is how many requests may be answered while one more layer of the
	// store is begun; 0: any number.
	PauseAbove int `yaml:"pause_above"`
	// A layer beyond any is not indexed; beyond MaxZTOC where its zTOC is larger
	// than a quarter of it, too.
	MaxUncompressed Bytes `yaml:"max_uncompressed"`
	MaxFiles        int   `yaml:"max_files"`
	MaxZTOC         Bytes `yaml:"max_ztoc"`

	RetireAfter time.Duration `yaml:"retire_after"` // what is listed no more is readable for so long

	Rules []IndexRule `yaml:"rules"` // the first that matches an image decides; none: not indexed
}

// IndexRule says how the images of some repositories are indexed. Its patterns
// are those of indexer.Rule.
type IndexRule struct {
	Repositories []string `yaml:"repositories"`
	Exclude      []string `yaml:"exclude"`
	Platforms    []string `yaml:"platforms"`      // of image indexes only these; none: those that are pulled
	MinLayerSize Bytes    `yaml:"min_layer_size"` // compressed
	MinImageSize Bytes    `yaml:"min_image_size"` // compressed, all layers of a platform
	SpanSize     Bytes    `yaml:"span_size"`      // uncompressed
	Publish      string   `yaml:"publish" enum:"both,v1,v2,none"`
	V2At         string   `yaml:"v2_at" enum:"suffix,tag"`
	// AcknowledgeUnsigned has to be said where V2At is tag.
	AcknowledgeUnsigned bool `yaml:"acknowledge_unsigned"`
	// PublishUpstream has what is published pushed to the image's upstream.
	PublishUpstream string `yaml:"publish_upstream" enum:"false,true,v1,v2,both"`
	Priority        int    `yaml:"priority"` // of what is indexed from the store; the highest first
}

// ReferrersConfig is how referrers are answered.
type ReferrersConfig struct {
	UpstreamTimeout time.Duration `yaml:"upstream_timeout"` // then the upstream's part is as it last was
	TTL             time.Duration `yaml:"ttl"`              // what an upstream listed is not asked for again for so long
	Wait            time.Duration `yaml:"wait"`             // an answer without an index that is about to come is held for so long; 0: never
	WaitMax         time.Duration `yaml:"wait_max"`         // and a client in all
	FirstPull       string        `yaml:"first_pull" enum:"proceed,build"`
	PushWait        time.Duration `yaml:"push_wait"` // who pushed a manifest waits so long for an index that is being built from its uploads; 0: not
}

// EventsConfig is who is told of what happens here.
type EventsConfig struct {
	MaxQueue  int             `yaml:"max_queue"` // events that wait for an endpoint before pulls and evictions are dropped
	Endpoints []EventEndpoint `yaml:"endpoints"`
}

// EventEndpoint is one receiver of notifications.
type EventEndpoint struct {
	Name             string        `yaml:"name"`                  // of its queue; unique
	URL              string        `yaml:"url"`                   // http:// or https://
	Headers          []string      `yaml:"headers" secret:"true"` // Name: value
	TokenFile        string        `yaml:"token_file"`            // holds what is sent as Authorization: Bearer
	Timeout          time.Duration `yaml:"timeout"`               // of one attempt
	Threshold        int           `yaml:"threshold"`             // failures in a row that are repeated at once, nearly
	Backoff          time.Duration `yaml:"backoff"`               // the pause from then on, doubling
	MaxBackoff       time.Duration `yaml:"max_backoff"`           // up to this
	RefusedFor       time.Duration `yaml:"refused_for"`           // so long an event is repeated that is answered with 400, 413 or 422
	IgnoreActions    []string      `yaml:"ignore_actions"`        //
	IgnoreMediaTypes []string      `yaml:"ignore_media_types"`    // of what an event is about
	Version          string        `yaml:"version" enum:"v1,v2"`  // of the envelope's media type

	token string // what TokenFile holds
}

// Default is the configuration where nothing is configured: the well-known
// registries, read anonymously, on loopback.
func Default() *Config {
	c := &Config{
		Listen:          "127.0.0.1:5000",
		Admin:           AdminConfig{Listen: "127.0.0.1:5001", Dashboard: true},
		ShutdownTimeout: 30 * time.Second,
		Log:             LogConfig{Level: "info", Format: "text"},
		Storage: StorageConfig{
			Path: "./data", MaxBytes: Room{Percent: 80}, MinFree: Room{Percent: 5}, OnDisconnect: "finish",
			FillAfterPercent: 50,
		},
		DefaultUpstream: dockerHub,
		Upstreams:       map[string]*UpstreamConfig{},
		Hosted:          map[string]*HostedConfig{localNamespace: {}},
		Index: IndexConfig{
			Enabled: true, Workers: 1, PauseAbove: 32, MaxUncompressed: 100 << 30, MaxFiles: 10_000_000, MaxZTOC: 64 << 20, RetireAfter: 24 * time.Hour, Rules: []IndexRule{defaultRule()},
		},
		TLS:       TLSConfig{ClientAuth: "optional", ClientName: "subject"},
		Referrers: ReferrersConfig{UpstreamTimeout: time.Second, TTL: time.Minute, Wait: 2 * time.Second, WaitMax: 20 * time.Second, FirstPull: "proceed", PushWait: 2 * time.Second},
		GC:        GCConfig{Interval: 24 * time.Hour, Grace: 24 * time.Hour, PulledAfter: 90 * 24 * time.Hour},
		Uploads:   UploadsConfig{Expire: 24 * time.Hour, MaxOpen: 1000, UpstreamBytes: Room{Percent: 25}},
		Events:    EventsConfig{MaxQueue: 100_000},
		Tracing:   TracingConfig{SamplePercent: 10},
		Learn:     defaultLearn(),
		Prewarm:   defaultPrewarm(),
		origins:   map[string]origin{},
	}
	for _, name := range wellKnown {
		c.Upstreams[name] = defaultUpstream(name)
	}
	return c
}

// dockerHub is what unprefixed names mean to every client.
const dockerHub = "docker.io"

// wellKnown are the upstreams of a configuration that names none.
var wellKnown = []string{
	dockerHub, "ghcr.io", "quay.io", "registry.k8s.io", "public.ecr.aws", "gcr.io", "mcr.microsoft.com",
}

// defaultUpstream is what an upstream's name alone says about it: the URL is
// "" when the name is no host name.
func defaultUpstream(name string) *UpstreamConfig {
	u := &UpstreamConfig{
		TagTTL: 5 * time.Minute, TagTimeout: time.Second, StallTimeout: 5 * time.Second, MaxConnections: 64,
		DialTimeout: 5 * time.Second, HeaderTimeout: 10 * time.Second, Retries: 3, BreakerFailures: 5, BreakerPause: 10 * time.Second,
	}
	switch {
	case name == dockerHub: // its registry and its tokens are served from other hosts
		u.URL, u.TokenRealms = "https://registry-1.docker.io", []string{"auth.docker.io"}
	case isHostName(name):
		u.URL = "https://" + name
	}
	return u
}

func defaultRule() IndexRule {
	return IndexRule{Repositories: []string{"**"}, MinLayerSize: 10 << 20, SpanSize: 4 << 20, Publish: "both", V2At: "suffix", PublishUpstream: "false"}
}
