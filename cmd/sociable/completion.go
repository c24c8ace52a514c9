package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// completer gives the words with which an argument that begins with word can go on.
type completer func(ctx context.Context, c *adminClient, word string) ([]string, error)

// completed are the commands of which shells complete arguments.
var completed = []struct {
	by       completer
	commands []string
}{
	{imagesLike, []string{"pin", "refresh", "purge", "stats", "warm", "export", "learn show", "learn reset", "index create", "index info", "index rm", "config explain"}},
	{pinsLike, []string{"unpin"}},
	{jobsLike, []string{"jobs retry", "jobs cancel", "jobs clear"}},
}

// completeArguments has shells complete the names of images and jobs: those that
// the running server knows. Where none runs, it is files.
func completeArguments(root *cobra.Command) {
	for _, x := range completed {
		for _, path := range x.commands {
			cmd, rest, err := root.Find(strings.Fields(path))
			if err != nil || len(rest) > 0 {
				panic("no command " + path) // of our own
			}
			many := cmd.Name() == "warm" || cmd.Name() == "export"
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
				if len(args) > 0 && !many {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return x.by.ask(cmd, word)
			}
		}
	}
}

func (by completer) ask(cmd *cobra.Command, word string) (words []string, how cobra.ShellCompDirective) {
	file := configFlags{}
	if f := cmd.Flags().Lookup("config"); f != nil {
		file.file = f.Value.String()
	}
	dir, err := file.dataDir(cmd, cmd.Flags().Lookup("data").Value.String())
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	running, err := withRunning(cmd.Context(), dir, func(ctx context.Context, c *adminClient) (err error) {
		words, err = by(ctx, c, word)
		return err
	})
	if err != nil || !running || len(words) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

func imagesLike(ctx context.Context, c *adminClient, word string) (list []string, err error) {
	err = c.call(ctx, http.MethodGet, "/api/v1/complete?word="+url.QueryEscape(word), nil, &list)
	return list, err
}

func pinsLike(ctx context.Context, c *adminClient, word string) (list []string, err error) {
	pins, err := c.Pins(ctx)
	for _, p := range pins {
		if strings.HasPrefix(p.Reference, word) {
			list = append(list, p.Reference)
		}
	}
	return list, err
}

func jobsLike(ctx context.Context, c *adminClient, word string) (list []string, err error) {
	jobs, err := c.Jobs(ctx)
	for _, j := range jobs {
		if strings.HasPrefix(j.ID, word) {
			list = append(list, j.ID)
		}
	}
	return list, err
}
