package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes manual pages, for packages.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man FOLDER",
		Short:   "Write the manual pages into a folder",
		Example: "  sociable man /usr/local/share/man/man1",
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // for everybody to read
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same bytes each time
			forManual(root)
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "sociable", Manual: "sociable"}, args[0]); err != nil {
				return fmt.Errorf("write manual pages into %s: %w", args[0], err)
			}
			return completePages(args[0], root)
		},
	}
}

// forManual has a command and those below it say what a manual page is to have:
// a group is nothing to run, and that every command has --help is known.
func forManual(cmd *cobra.Command) {
	if cmd.HasAvailableSubCommands() {
		cmd.Use, cmd.DisableFlagsInUseLine = cmd.Name()+" COMMAND", true
	}
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Hidden = true
	for _, c := range cmd.Commands() {
		forManual(c)
	}
}

// exitCodes is the annotation of a command that has exit codes of its own: what
// they mean.
const exitCodes = "exit codes"

// manEnd is what every page ends with, with the command's own exit codes.
const manEnd = `
.SH EXIT STATUS
0: done. 1: failed. 2: wrong command line or configuration.%s

.SH ENVIRONMENT
\fBSOCIABLE_\fP\fIKEY\fP: overrides a key of the configuration, as SOCIABLE_STORAGE_MAX_BYTES does storage.max_bytes. Flags override it.

.SH FILES
\fIconfig.yml\fP: the configuration, where --config names it. \fIDATA/admin.sock\fP: by which commands reach a running server.
`

// completePages ends each page in dir, and gives it its own name: the generator
// writes a dash as roff has it where it is a name.
func completePages(dir string, cmd *cobra.Command) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	path := filepath.Join(dir, name+".1")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(page), ".TH ")
	_, rest, _ = strings.Cut(rest, " ")
	text := fmt.Sprintf(".nh\n.TH %q %s", strings.ToUpper(name), rest)
	own := ""
	if codes := cmd.Annotations[exitCodes]; codes != "" {
		own = " " + codes
	}
	text = strings.TrimRight(text, "\n") + "\n" + fmt.Sprintf(manEnd, own)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // for everybody to read
		return err
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			if err := completePages(dir, c); err != nil {
				return err
			}
		}
	}
	return nil
}
