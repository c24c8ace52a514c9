package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newLearnCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "learn",
		Short: "See, or forget, what was learnt of how an image starts",
		Long: `See, or forget, what was learnt of how an image starts: which spans of its layers
lazily loading clients read first. Clients find it as prefetch artifacts in the
SOCI index, and the server has those spans here before they are asked for. See
learn: in config.yml.`,
		Args: subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLearnShowCommand(), newLearnResetCommand())
	return cmd
}

func newLearnShowCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "show IMAGE",
		Short: "Show what was learnt of how an image starts",
		Example: `  sociable learn show redis:7
  sociable learn show redis:7 --json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Learned(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), list)
				}
				if len(list) == 0 {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "no start of it was seen yet: nothing is known")
					return err
				}
				for i := range list {
					if err := printLearned(cmd.OutOrStdout(), &list[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func printLearned(w io.Writer, x *web.Learned) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "manifest\t%s\n", x.Manifest)
	if x.Platform != "" {
		fmt.Fprintf(t, "platform\t%s\n", x.Platform)
	}
	fmt.Fprintf(t, "starts\t%d counted, %d whose client was offered what was learnt", x.Starts, x.Offered)
	if x.Ignored > 0 {
		fmt.Fprintf(t, ", %d ignored", x.Ignored)
	}
	fmt.Fprintln(t)
	if len(x.Layers) == 0 {
		fmt.Fprintf(t, "learnt\tnothing yet\n")
		return t.Flush()
	}
	learnt := "learnt"
	if x.Imported {
		learnt += " (came in a bundle)"
	}
	fmt.Fprintf(t, "%s\t%s, %s\n", learnt, humanize.IBytes(uint64(x.Bytes)), humanize.Time(x.Set))
	if !x.Confirmed.IsZero() {
		fmt.Fprintf(t, "confirmed\t%s\n", humanize.Time(x.Confirmed))
	}
	if x.Index != "" {
		fmt.Fprintf(t, "index\t%s\n", x.Index)
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "LAYER\tSIZE\tSPANS")
	for i := range x.Layers {
		l := &x.Layers[i]
		fmt.Fprintf(t, "%s\t%s\t%s of %d\n", shortDigest(l.Layer), humanize.IBytes(uint64(l.Bytes)), spanRanges(l.Spans), l.Of)
	}
	return t.Flush()
}

// spanRanges writes spans that follow each other as FIRST-LAST.
func spanRanges(spans []web.LearnedSpan) string {
	var out []string
	for len(spans) > 0 {
		n := 1
		for n < len(spans) && spans[n].Span == spans[n-1].Span+1 {
			n++
		}
		word := fmt.Sprint(spans[0].Span)
		if n > 1 {
			word += fmt.Sprintf("-%d", spans[n-1].Span)
		}
		out, spans = append(out, word), spans[n:]
	}
	return strings.Join(out, ",")
}

func newLearnResetCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "reset IMAGE",
		Short: "Forget what was learnt of how an image starts",
		Long: `Forget what was learnt of how an image starts, on all platforms. The v1 index without
it is offered again, at once where a server runs; the next starts are learnt from
anew. A v2 image (TAG-soci) keeps what was known when it was first converted: its
digest may be pinned.`,
		Example: `  sociable learn reset redis:7`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				gone, err := api.ResetLearned(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), gone)
				}
				if len(gone) == 0 {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing was learnt of it")
					return err
				}
				for _, d := range gone {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: forgotten\n", d)
				}
				return nil
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func (c *adminClient) Learned(ctx context.Context, name string) (list []web.Learned, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/learn?name="+url.QueryEscape(name), nil, &list)
}

func (c *adminClient) ResetLearned(ctx context.Context, name string) (gone []digest.Digest, err error) {
	return gone, c.call(ctx, http.MethodPost, "/api/v1/learn/reset", byName(name), &gone)
}

func (o *offline) Learned(ctx context.Context, name string) ([]web.Learned, error) {
	return web.LearnedOf(ctx, o.store, name)
}

func (o *offline) ResetLearned(ctx context.Context, name string) ([]digest.Digest, error) {
	return web.ResetLearned(ctx, o.store, name, nil)
}
