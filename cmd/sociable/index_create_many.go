package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

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
	return needServer(cmd, &flags.config, flags.dataDir, func(ctx context.Context, c *adminClient) error {
		job, err := c.Backfill(ctx, web.BackfillRequest{Pattern: pattern, Platforms: flags.platforms})
		if err != nil {
			return err
		}
		if job, err = c.soon(ctx, job); err != nil {
			return err
		}
		if flags.json {
			return printJSON(cmd.OutOrStdout(), job)
		}
		if job.Error != "" {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s was filed and is tried again, see sociable jobs list: %s\n", job.ID, job.Error)
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s was filed; see: sociable jobs list\n", job.ID)
		return err
	})
}

// How long it is looked whether a job fails at once, as one does that finds no
// image, and how often.
const (
	soonTries = 12
	soonPause = 250 * time.Millisecond
)

// soon gives the job as it is after a moment, or as it was when it is through by
// then. That it failed, or goes wrong, is an error.
func (c *adminClient) soon(ctx context.Context, job web.Job) (web.Job, error) {
	for range soonTries {
		select {
		case <-time.After(soonPause):
		case <-ctx.Done():
			return job, context.Cause(ctx)
		}
		list, err := c.Jobs(ctx)
		if err != nil {
			return job, err
		}
		i := slices.IndexFunc(list, func(x web.Job) bool { return x.ID == job.ID })
		switch {
		case i < 0:
			return job, nil
		case list[i].State == web.JobFailed:
			return job, errors.New(list[i].Error)
		case list[i].Error != "":
			return list[i], nil
		}
		job = list[i]
	}
	return job, nil
}

// Backfill has the server index all images that a pattern means.
func (c *adminClient) Backfill(ctx context.Context, q web.BackfillRequest) (job web.Job, err error) {
	return job, c.call(ctx, http.MethodPost, "/api/v1/backfill", q, &job)
}
