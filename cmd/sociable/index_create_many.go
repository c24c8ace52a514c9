package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

// createMany has the running server find and index the images that a pattern
// means.
func createMany(cmd *cobra.Command, pattern string, flags indexCreateFlags) error {
	for _, name := range []string{"span-size", "min-layer-size", "all-platforms", "output"} {
		if cmd.Flags().Changed(name) {
			return usageError{error: errors.New("--" + name + " goes with one image: how those of a pattern are indexed is for index.rules to say")}
		}
	}
	if _, err := platformNames(flags.platforms); err != nil {
		return err
	}
	return needServer(cmd.Context(), flags.dataDir, func(ctx context.Context, c *adminClient) error {
		job, err := c.Backfill(ctx, web.BackfillRequest{Pattern: pattern, Platforms: flags.platforms})
		if err != nil {
			return err
		}
		if flags.json {
			return printJSON(cmd.OutOrStdout(), job)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s was filed; see: sociable jobs list\n", job.ID)
		return err
	})
}

// Backfill has the server index all images that a pattern means.
func (c *adminClient) Backfill(ctx context.Context, q web.BackfillRequest) (job web.Job, err error) {
	return job, c.call(ctx, http.MethodPost, "/api/v1/backfill", q, &job)
}
