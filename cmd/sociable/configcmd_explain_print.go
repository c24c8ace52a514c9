package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/sociable/sociable/indexer"
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

// warnSigned says what a converted image does to signatures.
func (x *Explanation) warnSigned(of *offer) {
	if !of.v2 || !strings.HasPrefix(x.Signed, "by ") {
		return
	}
	if of.rule.V2At == indexer.V2AtTag {
		x.Warnings = append(x.Warnings, "the image is signed, and its tag will lead to the v2 image, which no signature covers: clients that verify will refuse it")
		return
	}
	x.Warnings = append(x.Warnings, "the image is signed; the v2 image at the tag with the suffix is covered by no signature")
}

func (x *Explanation) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "image\t%s\n", x.Reference)
	fmt.Fprintf(t, "digest\t%s\n", orDash(x.Digest.String()))
	fmt.Fprintf(t, "known from\t%s\n", x.Source)
	fmt.Fprintf(t, "configuration\t%s\n", x.Config)
	if x.Rule < 0 {
		fmt.Fprintf(t, "rule\t%s\n", x.Text)
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
