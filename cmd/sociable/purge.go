package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

func newPurgeCommand() *cobra.Command {
	var flags storeFlags
	var q purgeQuery
	var unblock bool
	cmd := &cobra.Command{
		Use:   "purge IMAGE|DIGEST",
		Short: "Drop an image, or one blob",
		Long: `Drop an image, or one blob. What an upstream still has is fetched again when a
client next asks for it.

An image is named by its reference, or by repository@digest. It goes from that
repository: the tags that lead to it, manifests and layers. Bytes that no other
repository has go with it, with their spans and the SOCI index; what another
repository, another image or a pin needs stays. In a hosted repository that is
for good, and receivers of events are told. An immutable tag stays, unless
--force is given.

A digest alone means that one blob, whatever repositories have it: its bytes, of
a layer its spans and its index, too, and that repositories were found to have it.
With --keep-index a layer loses its file alone: ranges of it are answered out of
single spans from then on. What was pushed is not purged so, for there may be no other copy: --force takes
it away from every repository that has it, with the tags that lead to it.

With --block the digest, or the image's manifests, is kept out as well: clients
are told 403 DENIED, whatever name they use, until sociable unblock.

A running server knows which tags are immutable; where none runs, --config does.`,
		Example: `  sociable purge redis:7
  sociable purge ghcr.io/acme/app@sha256:9f3c… --block --reason CVE-2026-1234
  sociable unblock ghcr.io/acme/app@sha256:9f3c…`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			if err := q.check(unblock); err != nil {
				return err
			}
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				if unblock {
					return runUnblock(cmd.Context(), cmd.OutOrStdout(), api, q.Name, flags.json)
				}
				cfg, _, err := flags.config.load(cmd)
				if err != nil {
					return err
				}
				q.immutable = immutableTags(cfg)
				return runPurge(cmd.Context(), cmd.OutOrStdout(), api, q, flags.json)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&q.Block, "block", false, "and keep it out from now on")
	cmd.Flags().BoolVar(&q.Force, "force", false, "also an immutable tag, or a blob that was pushed")
	cmd.Flags().BoolVar(&q.KeepIndex, "keep-index", false, "of a layer, drop its file and keep its spans and index")
	cmd.Flags().Lookup("config").Usage = "the store is that of the configuration in `FILE`, and so are the rules, where no server runs"
	cmd.Flags().StringVar(&q.Reason, "reason", "", "say `WHY` it is blocked, for sociable blocks")
	cmd.Flags().BoolVar(&unblock, "unblock", false, "let in again what was blocked, and drop nothing, as sociable unblock does")
	return cmd
}

// purgeQuery is a request to purge.
type purgeQuery struct {
	web.PurgeRequest
	// immutable tells by the configuration, where no server has its own.
	immutable func(oci.Repo, string) bool
}

// check finds flags that do not go together.
func (q *purgeQuery) check(unblock bool) error {
	switch {
	case q.Reason != "" && !q.Block:
		return usageError{error: errors.New("--reason goes with --block")}
	case q.KeepIndex && (q.Block || unblock):
		return usageError{error: errors.New("--keep-index does not go with --block or --unblock")}
	case q.Block && unblock:
		return usageError{error: errors.New("--block and --unblock are contrary")}
	}
	return nil
}

func runPurge(ctx context.Context, w io.Writer, api adminAPI, q purgeQuery, asJSON bool) error {
	p, err := api.Purge(ctx, q)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, p)
	}
	return printPurged(w, p)
}

func printPurged(w io.Writer, p web.Purged) error {
	if p.Name != p.Digest.String() {
		fmt.Fprintf(w, "%s, %s\n%s, ", p.Name, p.Digest, inWords(p.Blobs, "blob"))
	}
	fmt.Fprintf(w, "%s freed\n", humanize.IBytes(uint64(p.Freed)))
	if p.Shared > 0 {
		fmt.Fprintf(w, "%s shared with other repositories or images, or pinned: kept\n", inWords(p.Shared, "blob"))
	}
	if len(p.Blocked) > 0 {
		_, err := fmt.Fprintf(w, "blocked; to let it in again: sociable unblock %s\n", p.Name)
		return err
	}
	return nil
}

func runUnblock(ctx context.Context, w io.Writer, api adminAPI, name string, asJSON bool) error {
	ds, err := api.Unblock(ctx, name)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, ds)
	}
	for _, d := range ds {
		fmt.Fprintf(w, "%s unblocked\n", d)
	}
	return nil
}
