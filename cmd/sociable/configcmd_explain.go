package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

func newConfigExplainCommand() *cobra.Command {
	var flags configFlags
	var asJSON, offline bool
	cmd := &cobra.Command{
		Use:   "explain IMAGE",
		Short: "Say which rule applies to an image, and what becomes of its layers",
		Long: `Say which rule of the configuration applies to an image, and what becomes of each
of its layers. Beside a running server that is its configuration, and it asks the
upstreams as it does; with -c, --upstream or --hosted, and where no server runs,
it is what these say. What the server, or its store, knows of the image is used;
for what it does not know, and for signatures, the upstream is asked. Nothing is
stored. Of an image that is nowhere it is what its name alone decides, with exit
code 0: whether an exclusion bites can be seen before the image is pushed.`,
		Example: `  sociable config explain redis:7                            by the running server's rules
  sociable config explain -c config.yml ghcr.io/acme/app:v1 --json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := explain(cmd, &flags, args[0], offline)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), out)
			}
			return out.print(cmd.OutOrStdout())
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the upstream")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// explain asks the running server, unless a configuration is named, or none runs.
func explain(cmd *cobra.Command, flags *configFlags, word string, offline bool) (out *Explanation, err error) {
	dir := cmd.Flags().Lookup("data").Value.String()
	if flags.file == "" && len(flags.upstreams) == 0 && len(flags.hosted) == 0 {
		if dir == "" {
			dir = findDataDir(cmd)
		}
		running, err := withRunning(cmd.Context(), dir, func(ctx context.Context, c *adminClient) (err error) {
			out, err = c.Explain(ctx, word, offline)
			return err
		})
		if running || err != nil {
			return out, err
		}
	}
	cfg, _, err := flags.load(cmd)
	if err != nil {
		return nil, err
	}
	e := &explainer{cfg: cfg, offline: offline, config: cmp.Or(flags.file, "the built-in one")}
	e.known = func(ctx context.Context, word string) (f web.Facts, err error) {
		err = withStore(ctx, cmp.Or(dir, cfg.Storage.Path), func(api adminAPI) (err error) {
			f, err = api.Facts(ctx, word)
			return err
		})
		return f, err
	}
	return e.explain(cmd.Context(), word)
}

// Explanation is what the configuration does with an image.
type Explanation struct {
	Reference string        `json:"reference"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	Config    string        `json:"configuration"`     // whose: the running server's, or of a file
	Source    string        `json:"source"`            // whose knowledge this is
	Missing   bool          `json:"missing,omitempty"` // there is no such image: all of this follows from its name
	Rule      int           `json:"rule"`              // number in index.rules, from 0; -1: none applies
	RuleAt    string        `json:"rule_at"`           // where it was given
	Text      string        `json:"text,omitempty"`    // the rule, on one line, or what holds without one
	Publish   string        `json:"publish"`           // what becomes of a finished index
	Upstream  string        `json:"publish_upstream"`  // which of it is pushed to the upstream, too
	Signed    string        `json:"signed"`            // how it is signed; "no", or "not known: ..."
	Warnings  []string      `json:"warnings,omitempty"`

	Images []ExplainedImage `json:"images"`
}

// ExplainedImage is one platform's image.
type ExplainedImage struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform,omitempty"`
	Note     string        `json:"note,omitempty"` // why there are no layers
	asItIs   bool          // it is never indexed
	// Instead says what goes before the rule here: another repository's, or what an
	// operator asked for.
	Instead []string         `json:"instead,omitempty"`
	Layers  []ExplainedLayer `json:"layers,omitempty"`
}

// ExplainedLayer is one layer.
type ExplainedLayer struct {
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"` // compressed bytes
	Indexed  bool          `json:"indexed"`
	SpanSize int64         `json:"span_size,omitempty"`
	Reason   string        `json:"reason,omitempty"` // why it is left out
	Now      string        `json:"now,omitempty"`    // how far it is, where that is known
}

type explainer struct {
	cfg     *Config
	config  string // what that is called
	offline bool
	known   func(ctx context.Context, word string) (web.Facts, error)
	ups     []*proxy.Upstream
	clients map[string]*upstream.Client
}

func (e *explainer) explain(ctx context.Context, word string) (*Explanation, error) {
	facts, source, err := e.facts(ctx, word)
	if err != nil {
		return nil, err
	}
	repo, err := oci.ParseRepo(facts.Repository)
	if err != nil {
		return nil, err
	}
	out := &Explanation{
		Config: e.config, Reference: facts.Reference, Digest: facts.Digest, MediaType: facts.MediaType, Source: source, RuleAt: "-",
		Missing: nowhere(&facts), Images: []ExplainedImage{},
	}
	rs := rules(e.cfg)
	var rule *indexer.Rule
	if out.Rule = indexer.Choose(rs, repo, facts.Tags); out.Rule >= 0 {
		rule = &rs[out.Rule]
		out.RuleAt = e.cfg.origin(fmt.Sprintf("index.rules[%d]", out.Rule)).String()
		out.Text = ruleText(&e.cfg.Index.Rules[out.Rule])
	}
	for i := range facts.Images {
		out.Images = append(out.Images, e.image(ctx, repo, out.Rule, &facts.Images[i]))
	}
	of := e.offer(ctx, repo, rule, facts)
	of.nothing(out.Images)
	out.Publish, out.Upstream = of.text(), of.upstreamText(e.cfg.whyNoPush(repo.Upstream))
	for _, t := range of.taken {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%s:%s is the upstream's own (%s): it goes before the v2 image, and is left as it is", repo, t.tag, shortDigest(t.digest)))
	}
	if rule == nil {
		out.Text = withoutRule(repo, facts, out.Images)
	}
	out.Signed = "not known: there is no image"
	if !out.Missing {
		out.Signed = e.signed(ctx, repo, facts)
	}
	out.warnSigned(&of)
	if !e.cfg.Index.Enabled {
		out.Warnings = append(out.Warnings, "index.enabled is false: nothing is indexed at all")
	}
	if facts.SOCI {
		out.Warnings = append(out.Warnings, "it is a SOCI index, or carries one: it is served as it is, and never indexed again")
	}
	return out, nil
}

// facts asks the server or its store, and else the upstream. Of an image that is
// nowhere there is its name, and no image in them.
func (e *explainer) facts(ctx context.Context, word string) (f web.Facts, source string, err error) {
	if f, err = e.known(ctx, word); err == nil {
		return f, "the store", nil
	}
	var ferr error
	if !e.offline {
		if f, ferr = e.fetch(ctx, word); ferr == nil {
			return f, "the upstream", nil
		}
	}
	switch f, source, ok := e.byName(word, err, ferr); {
	case ok:
		return f, source, nil
	case e.offline:
		return f, "", err
	default:
		return f, "", fmt.Errorf("%w; nor does its upstream tell of it: %w", err, ferr)
	}
}

// fetch makes facts of the manifest at the upstream.
func (e *explainer) fetch(ctx context.Context, word string) (f web.Facts, err error) {
	repo, ref, err := e.name(word)
	if err != nil {
		return f, err
	}
	client, err := e.client(repo)
	if err != nil {
		return f, err
	}
	m, err := client.Manifest(ctx, repo.Name, ref)
	if err != nil {
		return f, err
	}
	row, err := oci.ParseManifest(m.Body, m.Descriptor.MediaType)
	if err != nil {
		return f, err
	}
	f = web.Facts{
		Reference: repo.String() + "@" + ref.Digest.String(), Repository: repo.String(),
		Digest: m.Descriptor.Digest, MediaType: row.MediaType, SOCI: row.IsSOCI(),
	}
	if ref.Tag != "" {
		f.Reference, f.Tags = repo.String()+":"+ref.Tag, []string{ref.Tag}
	}
	if !row.IsIndex() {
		f.Images = []web.PlatformFacts{{Digest: f.Digest, Known: true, SOCI: row.IsSOCI(), Layers: row.Layers}}
		if p := platformOf(ctx, client, repo, row); p != nil {
			f.Images[0].Says = oci.PlatformName(*p)
		}
	}
	for i := range row.Manifests {
		f.Images = append(f.Images, web.PlatformFacts{Digest: row.Manifests[i].Digest, Platform: row.Manifests[i].Platform})
	}
	return f, nil
}

// image decides about one platform; a manifest that is not known is fetched.
func (e *explainer) image(ctx context.Context, repo oci.Repo, number int, p *web.PlatformFacts) ExplainedImage {
	out := ExplainedImage{Digest: p.Digest}
	out.Platform = p.Says
	if p.Platform != nil {
		out.Platform = strings.TrimSuffix(p.Platform.OS+"/"+p.Platform.Architecture+"/"+p.Platform.Variant, "/")
	}
	if !p.Known {
		if e.offline {
			out.Note = "its manifest is not here"
			return out
		}
		client, err := e.client(repo)
		var m *upstream.Manifest
		if err == nil {
			m, err = client.Manifest(ctx, repo.Name, oci.Reference{Digest: p.Digest})
		}
		var row *oci.Manifest
		if err == nil {
			row, err = oci.ParseManifest(m.Body, m.Descriptor.MediaType)
		}
		if err != nil {
			out.Note = err.Error()
			return out
		}
		p.SOCI, p.Layers = row.IsSOCI(), row.Layers
	}
	if p.SOCI {
		out.asItIs, out.Note = true, "a SOCI index, or an image that carries one: served as it is, and never indexed again"
		return out
	}
	rule, instead := e.ruleFor(repo, number, p.Image)
	out.Instead = instead
	layers, ok := indexer.Decide(rule, p.Platform, p.Layers)
	if !ok {
		out.asItIs, out.Note = true, "no image: passed on as it is"
		return out
	}
	for i := range layers {
		l := &layers[i]
		x := ExplainedLayer{
			Digest: l.Descriptor.Digest, Size: l.Descriptor.Size, Indexed: l.Skip == "", SpanSize: l.SpanSize, Reason: l.Skip,
		}
		if p.Index != nil && i < len(p.Index.Layers) {
			x.Now = nowText(&p.Index.Layers[i])
		}
		out.Layers = append(out.Layers, x)
	}
	return out
}

func nowText(l *LayerInfo) string {
	switch {
	case l.State == storage.LayerIndexed:
		return fmt.Sprintf("indexed, %d spans", l.Spans)
	case l.State == storage.LayerSkipped:
		return "left out: " + l.Reason
	case l.Reason != "":
		return "not indexed yet: " + l.Reason
	default:
		return "not indexed yet"
	}
}

// signatureTypes are artifact types of signatures.
var signatureTypes = []string{
	"application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json",
	"application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.cncf.notary.signature",
}

const byCosign = "by cosign, at the tag "

// signed looks for the signatures of cosign, by tag and as referrers, and of
// Notary.
func (e *explainer) signed(ctx context.Context, repo oci.Repo, f web.Facts) string {
	if e.offline {
		return "not known: the upstream was not asked"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tag := oci.AttachedTags(f.Digest)[0]
	client, err := e.client(repo)
	if err != nil {
		if _, kerr := e.known(ctx, repo.String()+":"+tag); kerr == nil { // pushed here
			return byCosign + tag
		}
		return "not known: " + err.Error()
	}
	if _, err = client.HeadManifest(ctx, repo.Name, oci.Reference{Tag: tag}); err == nil {
		return byCosign + tag
	} else if !upstream.IsNotFound(err) {
		return "not known: " + err.Error()
	}
	list, err := client.Referrers(ctx, repo.Name, f.Digest, "")
	if err != nil {
		return "not known: " + err.Error()
	}
	i := slices.IndexFunc(list, func(d v1.Descriptor) bool {
		return slices.Contains(signatureTypes, d.ArtifactType) || strings.HasPrefix(d.ArtifactType, "application/vnd.dev.sigstore.bundle")
	})
	if i >= 0 {
		return "by the referrer " + list[i].Digest.String() + ", " + list[i].ArtifactType
	}
	return "no"
}

// name reads an image's name as the proxy does.
func (e *explainer) name(word string) (oci.Repo, oci.Reference, error) {
	if err := e.reach(); err != nil {
		return oci.Repo{}, oci.Reference{}, err
	}
	return proxy.Name(e.ups, e.cfg.DefaultUpstream, word)
}

func (e *explainer) client(repo oci.Repo) (*upstream.Client, error) {
	if err := e.reach(); err != nil {
		return nil, err
	}
	c := e.clients[repo.Upstream]
	if c == nil { // it was resolved: a namespace of ours
		return nil, storeAlone(repo.Upstream)
	}
	return c, nil
}

// reach makes what is configured to be pulled from, once.
func (e *explainer) reach() (err error) {
	if e.clients == nil {
		e.ups, e.clients, err = buildUpstreams(e.cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		e.ups = append(e.ups, buildHosted(e.cfg)...)
	}
	return err
}
