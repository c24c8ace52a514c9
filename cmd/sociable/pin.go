package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newPinCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "pin IMAGE",
		Short: "Keep an image, whatever else comes",
		Long: `Keep an image: what is stored of it is not evicted, and neither is what comes
of it later. It is the image that the tag leads to now; when the tag has moved,
pin it again. Nothing is fetched: pull the image to have all of it here. SOCI
indexes and zTOCs that were made of it are not counted: no eviction takes those,
pinned or not.`,
		Example: `  sociable pin redis:7
  sociable pin ghcr.io/acme/app@sha256:9f3c…`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				p, err := api.Pin(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), p)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s pinned at %s\n%d of %d blobs are here, manifests included, %s; SOCI indexes and zTOCs made of them are kept, too, and not counted\n",
					p.Reference, p.Digest, p.Here, p.Blobs, humanize.IBytes(uint64(p.Bytes)))
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func newUnpinCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:     "unpin IMAGE",
		Short:   "Let a pinned image be evicted like any other",
		Example: `  sociable unpin redis:7`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				p, err := api.Unpin(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), p)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s unpinned\n", p.Reference)
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func newPinsCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "pins",
		Short: "List pinned images",
		Long: `List pinned images. Their blobs are manifests, configs and layers, and the
signatures and the like that were pinned with them. SOCI indexes and zTOCs that were
made of them here are kept, too, and not counted; export counts them.`,
		Example: `  sociable pins --json`,
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Pins(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]web.Pin{}, list...)) // [] rather than null
				}
				return printPins(cmd.OutOrStdout(), list)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func printPins(w io.Writer, list []web.Pin) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tDIGEST\tBLOBS HERE\tSIZE\tPINNED")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%d of %d\t%s\t%s\n", p.Reference, shortDigest(p.Digest), p.Here, p.Blobs,
			humanize.IBytes(uint64(p.Bytes)), humanize.Time(p.Created))
	}
	return t.Flush()
}
