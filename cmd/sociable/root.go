package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newRootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sociable",
		Short: "A pull-through registry proxy that makes images load lazily",
		Long: `sociable stands between container hosts and registries. It keeps what is pulled
through it, indexes large layers (SOCI) while they pass, and so lets containers
start before their image has arrived.`,
		Example: `  sociable serve                                  docker.io, ghcr.io, quay.io and more on 127.0.0.1:5000
  docker pull 127.0.0.1:5000/docker.io/library/redis:7
  sociable index list                             what has been indexed`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommandOnly,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetHelpCommand(newHelpCommand())
	cmd.Version = buildInfo().Version
	cmd.SetVersionTemplate("sociable {{.Version}}\n")
	cmd.SetUsageTemplate(usageTemplate)
	cmd.AddCommand(newServeCommand(), newConfigCommand(), newAdminCommand(), newIndexCommand(), newZTOCCommand(), newJobsCommand(), newPinCommand(), newUnpinCommand(), newPinsCommand(),
		newPurgeCommand(), newBlocksCommand(), newUnblockCommand(), newRefreshCommand(), newFsckCommand(), newGCCommand(), newUploadsCommand(), newEventsCommand(), newVersionCommand())
	cmd.AddCommand(newDoctorCommand(), newStatsCommand(), newHealthcheckCommand(), newManCommand(), newWarmCommand(), newExportCommand(), newImportCommand(), newMissingCommand(), newLearnCommand())
	completeArguments(cmd)
	cmd.InitDefaultCompletionCmd()
	for _, c := range cmd.Commands() {
		if c.Name() == "completion" { // cobra's has words that it does not know pass
			c.Short = "Write a script that completes command lines in a shell"
			c.Long = "Writes a script with which bash, fish, powershell or zsh completes the command lines of\nsociable. Each shell's command tells where its script belongs."
			c.Args, c.RunE = shellOnly, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	return cmd
}

// newHelpCommand is for those who write help in front of a command.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Explain a command, as --help behind it does", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{error: fmt.Errorf("sociable has no command %q", strings.Join(args, " "))}
			}
			return of.Help()
		},
	}
}

// subcommandOnly refuses a word that is no subcommand.
func subcommandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	names := subcommands(cmd)
	if near, ok := similar(args[0], names); ok {
		return fmt.Errorf("%s has no command %q; did you mean %q?", cmd.CommandPath(), args[0], near)
	}
	return fmt.Errorf("%s has no command %q; it has %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
}

// shellOnly refuses the name of a shell for which there is nothing: another name
// that looks like it is another shell.
func shellOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s has no command %q; it has %s", cmd.CommandPath(), args[0], strings.Join(subcommands(cmd), ", "))
}

func subcommands(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// exactly and atMost refuse another number of arguments, and show what is wanted.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return argumentError(cmd, n, len(args))
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return argumentError(cmd, n, len(args))
		}
		return nil
	}
}

// atLeast refuses fewer arguments.
func atLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return argumentError(cmd, n, len(args))
		}
		return nil
	}
}

func argumentError(cmd *cobra.Command, want, got int) error {
	plural := "s"
	if want == 1 {
		plural = ""
	}
	return fmt.Errorf("want %d argument%s, not %d: %s", want, plural, got, cmd.UseLine())
}

const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}
{{- end}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}

Each command explains itself with --help. Exit codes: 0 done, 1 failed,
2 wrong command line or configuration. With --json, an error is one line of JSON
on standard error, too: {"error": {"message": ...}}.
{{- else}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
{{- end}}
`
