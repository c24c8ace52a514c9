package main

import "github.com/spf13/cobra"

func newConfigShowCommand() *cobra.Command {
	var flags configFlags
	var origins, asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration in effect, defaults included",
		Long: `Print the configuration that serve would run with if it were given the same
flags, as YAML: defaults, file, environment and flags together. Secrets are not
printed.`,
		Example: `  sociable config show
  sociable config show -c config.yml --origins
  sociable config show --json | jq -r .storage.max_bytes`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := flags.load(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				v, err := cfg.values(origins)
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), v)
			}
			out, err := cfg.show(origins)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&origins, "origins", false, "say where each value that is no default was set")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; --origins adds the key \"origins\", a source for each path")
	return cmd
}
