package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

// createInStore has the server that owns a store index an image, or does it with
// what is in a store that none owns.
func createInStore(cmd *cobra.Command, word string, cfg *Config, flags indexCreateFlags) error {
	_, err := os.Stat(word)
	switch {
	case err == nil, strings.HasPrefix(word, "."), strings.HasPrefix(word, "/"):
		return fmt.Errorf("%s is no OCI layout", word)
	case flags.output != "":
		return usageError{error: errors.New("--output goes with an OCI layout: what is made of an image is in the store")}
	case flags.spanSize < web.MinSpanSize || flags.spanSize > web.MaxSpanSize:
		return usageError{error: fmt.Errorf("--span-size of an image is %s to %s", minSpan, maxSpan)}
	}
	if _, err := platformNames(flags.platforms); err != nil {
		return err
	}
	q := web.CreateRequest{Name: word, Platforms: flags.platforms}
	if cmd.Flags().Changed("span-size") {
		q.SpanSize = flags.spanSize
	}
	if cmd.Flags().Changed("min-layer-size") {
		q.MinLayerSize = &flags.minLayerSize
	}
	if len(q.Platforms) == 0 && !flags.allPlatforms {
		q.Platforms, q.OrOnly = []string{"linux/" + runtime.GOARCH}, true
	}
	return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
		doing := map[string]string{web.StepFetch: "fetching ", web.StepIndex: "indexing "}
		if o, ok := api.(*offline); ok {
			o.limits, o.rules = cfg.Index.limits(), rules(cfg)
		}
		bar, step := progress{}, ""
		list, err := api.Create(cmd.Context(), q, func(p web.CreateProgress) {
			if p.Step != step {
				bar.end()
				bar, step = newProgress(cmd, p.OfBytes, doing[p.Step]+word), p.Step
			}
			bar.of(p.OfBytes)
			bar.set(p.Bytes)
		})
		bar.end()
		if err != nil && len(list) == 0 {
			return err
		}
		return errors.Join(err, reportCreated(cmd.OutOrStdout(), list, flags.json))
	})
}
