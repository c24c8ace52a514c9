package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/access"
	"github.com/sociable/sociable/web"
)

func newAdminCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Administer a running server",
		Args:  subcommandOnly,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAdminTokenCommand())
	return cmd
}

func newAdminTokenCommand() *cobra.Command {
	var dataDir string
	var file configFlags
	var ttl time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token for the admin listener",
		Long: `Print a token that may administer the running server, for its admin listener
where a login is asked for. Whoever owns the data folder can have one; users have theirs by auth.rules. It opens nothing at the registry.`,
		Example: `  curl -H "Authorization: Bearer $(sociable admin token)" https://proxy.example:5001/metrics`,
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < time.Second || ttl > access.MaxTokenTTL {
				return usageError{fmt.Errorf("--ttl: want 1s to %s", formatDuration(access.MaxTokenTTL)), false}
			}
			return needServer(cmd, &file, dataDir, func(ctx context.Context, c *adminClient) error {
				t, err := c.AdminToken(ctx, ttl)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), t)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), t.Token)
				return err
			})
		},
	}
	registerServerDir(cmd, &file, &dataDir)
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how `LONG` it is good for, 24h at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: the token, and until when it is good")
	return cmd
}

// AdminToken has the server make a token.
func (c *adminClient) AdminToken(ctx context.Context, ttl time.Duration) (t web.AdminToken, err error) {
	return t, c.call(ctx, http.MethodPost, "/api/v1/token", web.TokenRequest{Seconds: int64(ttl / time.Second)}, &t)
}
