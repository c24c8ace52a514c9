package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// newHealthcheckCommand is for containers, which have no other program to ask with.
func newHealthcheckCommand() *cobra.Command {
	var f storeFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Say whether the server is ready to serve",
		Long: `Ask the running server through DATA/admin.sock whether it is ready, as /readyz
does: exit code 0 when it is, 1 when not. An upstream that is away does not make it
unready, since what is cached is served.`,
		Example: `  sociable healthcheck
  HEALTHCHECK CMD ["/sociable", "healthcheck"]        # in a Dockerfile`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageError{error: fmt.Errorf("--timeout: want more than 0s, not %s", timeout)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c := newAdminClient(filepath.Join(f.dataDir, adminSocket))
			defer func() { _ = c.Close() }() // its idle connections
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sociable/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := c.http.Do(req)
			if err != nil {
				var asked *url.Error
				if errors.As(err, &asked) {
					err = asked.Err // the address is a socket's, and says nothing
				}
				return fmt.Errorf("no server answers from %s: %w", f.dataDir, err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("the server is not ready: %s", resp.Status)
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]bool{"ready": true})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "wait at most so `LONG` for the answer")
	return cmd
}
