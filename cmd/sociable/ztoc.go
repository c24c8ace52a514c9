package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/ztoc"
)

func newZTOCCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ztoc",
		Short: "Build, look into and check zTOCs",
		Long: `Build, look into and check zTOCs, the tables of contents by which one file is
read out of a compressed layer. They are those of the soci command line, byte
for byte, and so is what these commands print.`,
		Args: subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newZTOCBuildCommand(), newZTOCInfoCommand(), newZTOCListCommand(), newZTOCGetFileCommand(), newZTOCVerifyCommand())
	return cmd
}

// bytesFlag is a size on the command line.
type bytesFlag struct{ to *int64 }

func (f bytesFlag) String() string {
	if f.to == nil {
		return ""
	}
	return Bytes(*f.to).String()
}

func (f bytesFlag) Set(s string) error {
	b, err := ParseBytes(s)
	if err == nil {
		*f.to = int64(b)
	}
	return err
}

func (f bytesFlag) Type() string { return "SIZE" }

// spanSizeFlag adds --span-size.
func spanSizeFlag(cmd *cobra.Command, to *int64) {
	*to = ztoc.DefaultSpanSize
	cmd.Flags().Var(bytesFlag{to}, "span-size", fmt.Sprintf("uncompressed `SIZE` of a span, %s to %s", minSpan, maxSpan))
}

// checkSpanSize says whether a span size is one that rules may have, too.
func checkSpanSize(n int64) error {
	if n < int64(minSpan) || n > int64(maxSpan) {
		return usageError{error: fmt.Errorf("--span-size is %s to %s, not %s", minSpan, maxSpan, Bytes(n))}
	}
	return nil
}
