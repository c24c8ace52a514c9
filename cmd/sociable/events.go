package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/web"
)

func newEventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "See and change what endpoints have not been told yet",
		Long: `See and change what endpoints (events.endpoints) have not been told yet: events that
wait until their endpoint takes them, and events that were set aside because it
refuses them.`,
		Args: subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEventsListCommand(), newEventsRetryCommand(), newEventsDropCommand())
	return cmd
}

func newEventsListCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the events that endpoints have not taken, the oldest first",
		Example: `  sociable events list
  sociable events list --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				list, err := api.EventQueues(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), append([]web.EventQueue{}, list...)) // [] rather than null
				}
				return printEvents(cmd.OutOrStdout(), list)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func printEvents(w io.Writer, list []web.EventQueue) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENDPOINT\tSTATE\tAGE\tACTION\tIMAGE\tID")
	for _, q := range list {
		for _, e := range q.Events {
			state, name := "waits", orDash(e.Repository)
			if e.SetAside {
				state = "set aside"
			}
			if e.Tag != "" {
				name += ":" + e.Tag
			} else if e.Digest != "" {
				name += "@" + e.Digest.String()
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", q.Endpoint, state, humanize.Time(e.Time), e.Action, name, e.ID)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, q := range list {
		if _, err := fmt.Fprintf(w, "%s: %d wait, %d set aside\n", q.Endpoint, q.Waiting, q.SetAside); err != nil {
			return err
		}
	}
	return nil
}

func newEventsRetryCommand() *cobra.Command {
	return newEventsChangeCommand(&cobra.Command{
		Use:     "retry ENDPOINT",
		Short:   "Send what an endpoint refused to it again, behind what waits",
		Example: `  sociable events retry ci`,
	}, "sent again", adminAPI.RetryEvents, nil)
}

func newEventsDropCommand() *cobra.Command {
	var waiting bool
	cmd := newEventsChangeCommand(&cobra.Command{
		Use:   "drop ENDPOINT",
		Short: "Forget what an endpoint refused",
		Long: `Forget what an endpoint refused, and with --waiting also what it has not taken yet:
it is never told of that.`,
		Example: `  sociable events drop ci
  sociable events drop ci --waiting`,
	}, "dropped", adminAPI.DropEvents, &waiting)
	cmd.Flags().BoolVar(&waiting, "waiting", false, "what waits to be sent, too")
	return cmd
}

func newEventsChangeCommand(cmd *cobra.Command, done string, change func(adminAPI, context.Context, web.EventsRequest) (web.EventsChanged, error), waiting *bool) *cobra.Command {
	var flags storeFlags
	cmd.Args = exactly(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == "" {
			return usageError{errors.New("name an endpoint, as events list shows it"), false}
		}
		q := web.EventsRequest{Endpoint: args[0], Waiting: waiting != nil && *waiting}
		return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
			n, err := change(api, cmd.Context(), q)
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(cmd.OutOrStdout(), n)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", inWords(n.Events, "event"), done)
			return err
		})
	}
	flags.register(cmd)
	return cmd
}

func (c *adminClient) EventQueues(ctx context.Context) (list []web.EventQueue, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/events", nil, &list)
}

func (c *adminClient) RetryEvents(ctx context.Context, q web.EventsRequest) (n web.EventsChanged, err error) {
	return n, c.call(ctx, http.MethodPost, "/api/v1/events/retry", q, &n)
}

func (c *adminClient) DropEvents(ctx context.Context, q web.EventsRequest) (n web.EventsChanged, err error) {
	return n, c.call(ctx, http.MethodPost, "/api/v1/events/drop", q, &n)
}

func (o *offline) EventQueues(ctx context.Context) ([]web.EventQueue, error) {
	return web.EventQueues(ctx, o.store)
}

func (o *offline) RetryEvents(ctx context.Context, q web.EventsRequest) (web.EventsChanged, error) {
	return web.RetryEvents(ctx, o.store, q)
}

func (o *offline) DropEvents(ctx context.Context, q web.EventsRequest) (web.EventsChanged, error) {
	return web.DropEvents(ctx, o.store, q)
}
