package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/web"
)

func ruleText(r *IndexRule) string {
	s := "repositories [" + strings.Join(r.Repositories, ", ") + "]"
	if len(r.Exclude) > 0 {
		s += ", but for [" + strings.Join(r.Exclude, ", ") + "]"
	}
	if len(r.Platforms) > 0 {
		s += "; platforms " + strings.Join(r.Platforms, ", ")
	}
	if r.MinImageSize > 0 {
		s += "; images from " + r.MinImageSize.String()
	}
	s += "; layers from " + r.MinLayerSize.String() + "; spans of " + r.SpanSize.String()
	if r.Priority != 0 {
		s += fmt.Sprintf("; priority %d", r.Priority)
	}
	return s
}

// publishText says what becomes of finished zTOCs.
func publishText(rule *indexer.Rule, facts web.Facts) string {
	const v1 = "v1, a referrer of each platform's manifest"
	if rule == nil {
		return "none: no rule applies"
	}
	v2 := "v2, once a tag leads to it"
	if len(facts.Tags) > 0 && rule.V2At == indexer.V2AtTag {
		v2 = "v2, at " + strings.Join(facts.Tags, ", ")
	} else if len(facts.Tags) > 0 {
		v2 = "v2, at " + strings.Join(facts.Tags, indexer.ConvertedSuffix+", ") + indexer.ConvertedSuffix
	}
	switch rule.Publish {
	case indexer.PublishNone:
		return "none: the layers are indexed for ranges out of their spans alone"
	case indexer.PublishV1:
		return v1
	case indexer.PublishV2:
		return v2
	}
	return v1 + "; " + v2
}

// warnSigned says what a converted image does to signatures.
func (x *Explanation) warnSigned(rule *indexer.Rule) {
	if rule == nil || rule.Publish == indexer.PublishNone || rule.Publish == indexer.PublishV1 || !strings.HasPrefix(x.Signed, "by ") {
		return
	}
	if rule.V2At == indexer.V2AtTag {
		x.Warnings = append(x.Warnings, "the image is signed, and its tag will lead to the v2 image, which no signature covers: clients that verify will refuse it")
		return
	}
	x.Warnings = append(x.Warnings, "the image is signed; the v2 image at the tag with the suffix is covered by no signature")
}

func (x *Explanation) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "image\t%s\n", x.Reference)
	fmt.Fprintf(t, "digest\t%s\n", x.Digest)
	fmt.Fprintf(t, "known from\t%s\n", x.Source)
	fmt.Fprintf(t, "configuration\t%s\n", x.Config)
	if x.Rule < 0 {
		fmt.Fprintf(t, "rule\tnone applies: it is not indexed\n")
	} else {
		fmt.Fprintf(t, "rule\tindex.rules[%d] (%s): %s\n", x.Rule, x.RuleAt, x.Text)
	}
	fmt.Fprintf(t, "publish\t%s\n", x.Publish)
	fmt.Fprintf(t, "at the upstream\t%s\n", x.Upstream)
	fmt.Fprintf(t, "signed\t%s\n", x.Signed)
	for _, s := range x.Warnings {
		fmt.Fprintf(t, "warning\t%s\n", s)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range x.Images {
		if err := x.Images[i].print(w); err != nil {
			return err
		}
	}
	return nil
}

func (m *ExplainedImage) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s  %s\n", orDash(m.Platform), m.Digest)
	if m.Note != "" {
		fmt.Fprintf(w, "  %s\n", m.Note)
		return nil
	}
	for _, s := range m.Instead {
		fmt.Fprintf(w, "  note: %s\n", s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  LAYER\tSIZE\t"+byWhat(m.Instead)+"\tNOW")
	for _, l := range m.Layers {
		what := "left out: " + l.Reason
		if l.Indexed {
			what = "indexed, spans of " + Bytes(l.SpanSize).String()
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", shortDigest(l.Digest), humanize.IBytes(uint64(l.Size)), what, orDash(l.Now))
	}
	return t.Flush()
}

func byWhat(instead []string) string {
	if len(instead) > 0 {
		return "AS NOTED"
	}
	return "BY THE RULE"
}
