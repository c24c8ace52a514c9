package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
	"github.com/sociable/sociable/web/catalog"
)

func newStatsCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "stats [IMAGE]",
		Short: "Say what indexing is good for",
		Long: `Say what a lazy start of an image takes and saves: measured, where clients read it
lazily, and else estimated (containers read 6.4 % of their image to start, as
measured over many). Without IMAGE, the images that gain most, all together, and
how full each hosted namespace is (its quota is known to a running server, and "?"
without one).`,
		Example: `  sociable stats redis:7
  sociable stats`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := connect(cmd.Context(), f.dataDir)
			if err != nil {
				return err
			}
			defer func() { _ = api.Close() }() // nothing was written
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			s, err := api.Stats(cmd.Context(), name)
			switch {
			case err != nil:
				return err
			case f.json:
				return printJSON(cmd.OutOrStdout(), s)
			case name == "":
				_, alone := api.(*offline)
				return printAllStats(cmd.OutOrStdout(), s, !alone)
			}
			return printStats(cmd.OutOrStdout(), s)
		},
	}
	f.register(cmd)
	return cmd
}

func printStats(w io.Writer, s web.Stats) error {
	for i, x := range s.Images {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		line := func(what, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
		line("image", "%s", x.Reference)
		if x.Platform != "" {
			line("platform", "%s", x.Platform)
		}
		line("size", "%s, compressed", humanize.IBytes(uint64(x.Size)))
		line("layers", "%d, %d of them indexed", x.Layers, x.Indexed)
		if x.Index != "" {
			line("index", "%s", x.Index)
		} else {
			line("index", "none; sociable index info %s says why", x.Reference)
		}
		line("lazy start", "%s", lazyStart(x))
		line("pulls", "%s", pulls(x))
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func lazyStart(x *catalog.Image) string {
	switch {
	case x.Measured:
		return fmt.Sprintf("%s so far, %s of the image; %s saved", humanize.IBytes(uint64(x.Read)), share(x.Read, x.Size), humanize.IBytes(uint64(x.Saved)))
	case x.Saved > 0:
		return fmt.Sprintf("nobody has read it lazily yet; some %s to be saved", humanize.IBytes(uint64(x.Saved)))
	}
	return "-"
}

func share(n, of int64) string {
	if of <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}

func pulls(x *catalog.Image) string {
	if x.LastPull.IsZero() {
		return fmt.Sprint(x.Pulls)
	}
	return fmt.Sprintf("%d, last %s", x.Pulls, humanize.Time(x.LastPull))
}

// mostStats is how many images are worth a line each.
const mostStats = 20

func printAllStats(w io.Writer, s web.Stats, quotas bool) error {
	list := slices.Clone(s.Images)
	slices.SortStableFunc(list, func(a, b *catalog.Image) int { return int(min(max(b.Saved-a.Saved, -1), 1)) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tPLATFORM\tSIZE\tINDEXED\tREAD\tSAVED\tPULLS")
	for _, x := range list[:min(len(list), mostStats)] {
		read, saved := "-", "-"
		if x.Measured {
			read = share(x.Read, x.Size)
		}
		if x.Saved > 0 {
			saved = humanize.IBytes(uint64(x.Saved))
			if !x.Measured {
				saved = "~" + saved
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d of %d\t%s\t%s\t%d\n", x.Reference, orDash(x.Platform), humanize.IBytes(uint64(x.Size)), x.Indexed, x.Layers, read, saved, x.Pulls)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	have := "have"
	if s.Totals.Indexed == 1 {
		have = "has"
	}
	_, err := fmt.Fprintf(w, "%d of %s %s an index, %s in all; one lazy start of each saves %s\n",
		s.Totals.Indexed, inWords(s.Totals.Images, "image"), have, humanize.IBytes(uint64(s.Totals.Bytes)), humanize.IBytes(uint64(s.Totals.Saved)))
	if err != nil {
		return err
	}
	return printNamespaces(w, s.Namespaces, quotas)
}
