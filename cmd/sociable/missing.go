package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newMissingCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "missing",
		Short: "List what clients asked for and did not get, offline",
		Long: `List the images that clients asked for while their upstream is offline by
configuration, and that are not here: a list as warm and export take it, the most
wanted first. What pushes look for is not in it. Of an image that is here in part, as after export --lazy-only, the
image is listed for the layers that were asked for; a blob of which no image is
known is a comment. What is imported or warmed is taken off the list.`,
		Example: `  sociable missing > images.txt     # carry it to where there is a network, then
  sociable export -f images.txt -o bundle.tar --keep-going`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Missing(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]web.MissingThing{}, list...)) // [] rather than null
				}
				if len(list) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "nothing is noted: no client asked in vain for what an offline upstream has")
				}
				return printMissing(cmd.OutOrStdout(), list)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// wantedImage is a line of the list.
type wantedImage struct {
	name  string
	asked int64
	last  time.Time
	blobs []string // that were asked for, where it is here in part
}

func printMissing(w io.Writer, list []web.MissingThing) error {
	var lines []*wantedImage
	byName := map[string]*wantedImage{}
	for i := range list {
		x := &list[i]
		name := "# blob " + x.Repository + "@" + x.Reference
		if len(x.Images) > 0 {
			name = x.Images[0] // one spelling suffices
		}
		line := byName[name]
		if line == nil {
			line = &wantedImage{name: name}
			byName[name], lines = line, append(lines, line)
		}
		line.asked += x.Asked
		if x.Last.After(line.last) {
			line.last = x.Last
		}
		if x.Blob && len(x.Images) > 0 {
			line.blobs = append(line.blobs, x.Reference)
		}
	}
	slices.SortStableFunc(lines, func(a, b *wantedImage) int { return cmp.Compare(b.asked, a.asked) })
	for _, l := range lines {
		what := ""
		if n := len(l.blobs); n > 0 {
			what = " its blob " + l.blobs[0]
			if n > 1 {
				what += fmt.Sprintf(" and %d more", n-1)
			}
		}
		if _, err := fmt.Fprintf(w, "%s # asked for%s %s, last %s\n", l.name, what, inWords(l.asked, "time"), humanize.Time(l.last)); err != nil {
			return err
		}
	}
	return nil
}

func (o *offline) Missing(ctx context.Context) ([]web.MissingThing, error) {
	return web.MissingThings(ctx, o.store)
}
