package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newConfigCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say ok, or everything that is wrong with a configuration",
		Long: `Read a configuration file as serve would, with the SOCIABLE_ environment
variables of the moment, and print each mistake with its line. Without a file
the environment alone is checked. With --json the result is on standard output,
{"configuration", "ok", "mistakes", "warnings"}, of a wrong one, too.`,
		Example: `  sociable config check config.yml
  sociable config check --json config.yml | jq -r '.mistakes[], .warnings[]'`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags, name := configFlags{}, "configuration"
			if len(args) == 1 {
				flags.file, name = args[0], args[0]
			}
			_, warnings, err := flags.load(cmd)
			if asJSON {
				return errors.Join(printJSON(cmd.OutOrStdout(), checked(name, warnings, err)), err)
			}
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// Checked is what config check --json prints.
type Checked struct {
	Configuration string   `json:"configuration"` // the file, or "configuration" for the environment alone
	OK            bool     `json:"ok"`
	Mistakes      []string `json:"mistakes"` // each with file and line
	Warnings      []string `json:"warnings"`
}

func checked(name string, warnings []string, err error) Checked {
	c := Checked{Configuration: name, OK: err == nil, Mistakes: []string{}, Warnings: append([]string{}, warnings...)}
	if err != nil {
		c.Mistakes = strings.Split(err.Error(), "\n")
	}
	return c
}
