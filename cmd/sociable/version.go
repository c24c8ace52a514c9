package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildVersion and buildCommit are stamped by the linker (-X
// main.buildVersion=...). Where they are not, the module's build information
// says what it knows.
var buildVersion, buildCommit string

// BuildInfo names a build.
type BuildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildInfo is that of this binary.
func buildInfo() BuildInfo {
	b := BuildInfo{buildVersion, buildCommit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	info, _ := debug.ReadBuildInfo() // nil only in a binary built without modules
	if b.Version == "" && info != nil {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Commit == "" && info != nil {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	return b
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print which build this is",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildInfo()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			line := fmt.Sprintf("sociable %s", b.Version)
			if b.Commit != "" {
				line += fmt.Sprintf(" (%.12s)", b.Commit)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", line, b.Go, b.Platform)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
