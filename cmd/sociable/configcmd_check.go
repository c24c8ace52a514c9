package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say ok, or everything that is wrong with a configuration",
		Long: `Read a configuration file as serve would, with the SOCIABLE_ environment
variables of the moment, and print each mistake with its line. Without a file
the environment alone is checked.`,
		Example: `  sociable config check config.yml`,
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags, name := configFlags{}, "configuration"
			if len(args) == 1 {
				flags.file, name = args[0], args[0]
			}
			_, warnings, err := flags.load(cmd)
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", name)
			}
			return err
		},
	}
}
