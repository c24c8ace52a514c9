package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newJobsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "See, retry, cancel and forget what waits to be indexed",
		Args:  subcommandOnly,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newJobsListCommand(),
		newJobsChangeCommand("retry", "Have a job done at its next turn, as if it never had failed", "%s tried again\n", adminAPI.RetryJob),
		newJobsChangeCommand("cancel", "Have a job not be done, until it is retried or its image is pulled", "%s cancelled\n", adminAPI.CancelJob),
		newJobsChangeCommand("clear", "Forget a job that failed or was cancelled", "%s forgotten\n", adminAPI.ClearJob))
	return cmd
}

func newJobsListCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what waits to be indexed, fetched or converted",
		Example: `  sociable jobs list
  sociable jobs list --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.Jobs(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]web.Job{}, list...)) // [] rather than null
				}
				return printJobs(cmd.OutOrStdout(), list, terminalWidth(cmd.OutOrStdout()))
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// printJobs prints a line for each, of no more than width characters where that is
// not 0: --json has all of an error.
func printJobs(w io.Writer, list []web.Job, width int) error {
	var lines bytes.Buffer
	t := tabwriter.NewWriter(&lines, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tATTEMPTS\tAGE\tREPOSITORY\tERROR")
	paused := ""
	for _, x := range list {
		state := x.State
		switch {
		case x.State == web.JobPutOff:
			state += ", " + humanize.Time(x.NotBefore)
		case x.State == web.JobRunning && x.Size > 0:
			state += fmt.Sprintf(", %d %%", 100*x.Done/x.Size)
		}
		if x.Paused != "" {
			state, paused = state+", paused", x.Paused
		}
		repository := x.Repository
		if strings.Contains(x.ID, repository) {
			repository = "" // it was said
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", x.ID, state, x.Attempts, humanize.Time(x.Created), orDash(repository), orDash(x.Error))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(lines.String()) {
		if r := []rune(strings.TrimRight(line, " \n")); width > 1 && len(r) > width {
			line = string(r[:width-1]) + "…\n"
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	if paused != "" {
		_, err := fmt.Fprintln(w, "paused: "+paused)
		return err
	}
	return nil
}

func newJobsChangeCommand(name, short, done string, change func(adminAPI, context.Context, string) (int, error)) *cobra.Command {
	var flags storeFlags
	var failed bool
	cmd := &cobra.Command{
		Use:   name + " ID|--failed",
		Short: short,
		Example: fmt.Sprintf(`  sociable jobs %[1]s image:docker.io/library/redis:7
  sociable jobs %[1]s --failed`, name),
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if failed != (len(args) == 0) || len(args) == 1 && args[0] == "" {
				return usageError{errors.New("name one job, as jobs list shows it, or give --failed"), false}
			}
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				n, err := change(api, cmd.Context(), id)
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), map[string]int{"jobs": n})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), done, english.Plural(n, "job", ""))
				return err
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&failed, "failed", false, "all that were given up")
	return cmd
}
