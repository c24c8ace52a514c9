package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/storage"
)

func newGCCommand() *cobra.Command {
	var flags storeFlags
	var q collectQuery
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what nothing needs any more",
		Long: `Remove what nothing needs any more: of hosted repositories the tags that no rule
of the configuration keeps, manifests without a tag where a rule says so,
referrers of what was deleted, blobs that no manifest names, and uploads that
were given up, and files that a crash left; and images that were pulled through and not used for a long time,
with what was made here of them. What is pinned stays.

A running server does it beside its work, by its own configuration; where none
runs, the store is opened, and --config says by which rules. With --dry-run
nothing is removed, and what would be is listed.

What was pushed or asked for within gc.grace stays in any case, so that a client
that pushes an image finds all of it when it sends the manifest. To have the room
of images that were deleted just now, give a shorter --grace; with 0s, a client
in the middle of a push may be told that a blob is missing, and has to push again.`,
		Example: `  sociable gc --dry-run
  sociable gc --grace 0s
  sociable gc --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if cmd.Flags().Changed("grace") {
				if grace < 0 {
					return usageError{error: errors.New("--grace: want 0s or more")}
				}
				q.Grace = &grace
			}
			q.options = func(s *storage.Store) (storage.CollectOptions, error) {
				cfg, _, err := flags.config.load(cmd)
				if err != nil {
					return storage.CollectOptions{}, err
				}
				return collectOptions(cfg, s, nil, nil), nil
			}
			return withStore(ctx, flags.dataDir, func(api adminAPI) error {
				return runGC(ctx, cmd.OutOrStdout(), api, q, flags.json)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&q.DryRun, "dry-run", false, "say what would go, and remove nothing")
	cmd.Flags().DurationVar(&grace, "grace", 0, "what was pushed or asked for stays so `LONG`, in place of gc.grace")
	cmd.Flags().Lookup("config").Usage = "the store is that of the configuration in `FILE`, and so are the rules, where no server runs"
	return cmd
}

// collectQuery is a request to collect garbage.
type collectQuery struct {
	DryRun bool
	Grace  *time.Duration // nil: the configuration's
	// options gives those of the configuration, where no server has its own.
	options func(*storage.Store) (storage.CollectOptions, error)
}

func runGC(ctx context.Context, w io.Writer, api adminAPI, q collectQuery, asJSON bool) error {
	list := []storage.Collected{}
	report, err := api.Collect(ctx, q, func(x storage.Collected) {
		if asJSON {
			list = append(list, x)
		} else if q.DryRun {
			printCollected(w, x)
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, map[string]any{"report": report, "collected": list})
	}
	verb := "removed"
	if q.DryRun {
		verb = "would go"
	}
	_, err = fmt.Fprintf(w, "%s, %s, %s, %s, %s and %d zTOCs and indexes %s; %s in %s\n",
		inWords(report.Tags, "tag"), inWords(report.Manifests, "manifest"), inWords(report.Blobs, "blob"), inWords(report.Uploads, "upload"),
		inWords(report.Orphans, "orphan"), report.Made, verb,
		humanize.IBytes(uint64(report.Freed)), report.Took.Round(time.Millisecond))
	return err
}

func printCollected(w io.Writer, x storage.Collected) {
	name := x.Repo
	switch {
	case x.Tag != "":
		name += ":" + x.Tag
	case x.Upload != "" && name == "":
		name = "upload " + x.Upload
	case x.Upload != "":
		name += " " + x.Upload
	case name == "":
		name = x.Digest.String()
	default:
		name += "@" + x.Digest.String()
	}
	fmt.Fprintf(w, "%s  %s  %s  %s\n", x.What, name, humanize.IBytes(uint64(x.Bytes)), x.Reason)
}
