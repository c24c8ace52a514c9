package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newConfigReloadCommand() *cobra.Command {
	var dataDir string
	var file configFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running server read its configuration again",
		Long: `Have the running server read the file, environment and flags that it was started
with again, as SIGHUP does: upstreams with their credentials and budgets, access,
auth, index.rules, and certificates. No connection is dropped, and a transfer
goes on as it began. Other rules are applied to what is already stored, too. A
configuration with a mistake changes nothing; each mistake is printed with its
line, and the exit code is 2. Other keys that changed wait for a restart and are
named.`,
		Example: `  sociable config check config.yml && sociable config reload
  kill -HUP $(pidof sociable)`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return needServer(cmd, &file, dataDir, func(ctx context.Context, c *adminClient) error {
				out, err := c.Reload(ctx)
				if err != nil {
					return usageError{err, true}
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), web.Reloaded{Warnings: append([]string{}, out.Warnings...), Restart: append([]string{}, out.Restart...)})
				}
				for _, w := range out.Warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
				}
				for _, k := range out.Restart {
					fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s changed, and waits for a restart\n", k)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "reloaded")
				return err
			})
		},
	}
	registerServerDir(cmd, &file, &dataDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: warnings, and the keys that wait for a restart")
	return cmd
}

// registerServerDir is for commands that need a running server.
func registerServerDir(cmd *cobra.Command, file *configFlags, dataDir *string) {
	cmd.Flags().StringVarP(&file.file, "config", "c", "", "the running server was started with `FILE` (storage.path)")
	cmd.Flags().StringVar(dataDir, "data", "", "the running server's data `FOLDER` (that of --config, $SOCIABLE_STORAGE_PATH, ./data, or the service's)")
}

// needServer calls fn with the server that owns the store in dir, or where file or
// else commands look for it.
func needServer(cmd *cobra.Command, file *configFlags, dir string, fn func(context.Context, *adminClient) error) error {
	dir, err := file.dataDir(cmd, dir)
	if err != nil {
		return err
	}
	running, err := withRunning(cmd.Context(), dir, fn)
	if err == nil && !running {
		err = errors.New("no server is running over " + dir + "; its folder is given by --data, or by its configuration with --config" + serviceHint(dir, serviceDir))
	}
	return err
}

// Reload has the server read its configuration again.
func (c *adminClient) Reload(ctx context.Context) (out web.Reloaded, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/reload", nil, &out)
}
