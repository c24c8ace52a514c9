package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/storage"
)

func newUploadsCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "uploads",
		Short: "See and end uploads that are under way",
		Long: `List the uploads that are neither finished nor cancelled: what clients push, and
what pushes left that were cut off. They take room, count for the quota of their
namespace, and for uploads.max_open of their caller. Those that nobody goes on with
end by themselves after uploads.expire. Without a command, they are listed.`,
		Example: `  sociable uploads
  sociable uploads --json
  sociable uploads cancel 4a3f0a4c-6d1c-4bb7-9d5e-0c6a7b1f2e3d`,
		Args: subcommandOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return listUploads(cmd, flags) },
	}
	flags.register(cmd)
	cmd.AddCommand(newUploadsListCommand(), newUploadsCancelCommand())
	return cmd
}

func newUploadsListCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the uploads that are under way, the oldest first",
		Example: `  sociable uploads list`,
		Args:    atMost(0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return listUploads(cmd, flags) },
	}
	flags.register(cmd)
	return cmd
}

func listUploads(cmd *cobra.Command, flags storeFlags) error {
	return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
		list, err := api.Uploads(cmd.Context())
		if err != nil {
			return err
		}
		if flags.json {
			return printJSON(cmd.OutOrStdout(), append([]storage.UploadInfo{}, list...)) // [] rather than null
		}
		return printUploads(cmd.OutOrStdout(), list)
	})
}

func printUploads(w io.Writer, list []storage.UploadInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tREPOSITORY\tCALLER\tSIZE\tBEGUN\tLAST SENT")
	for _, x := range list {
		sent := humanize.Time(x.Touched)
		if x.Busy {
			sent = "now"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Repository, orDash(x.Caller), humanize.IBytes(uint64(x.Bytes)), humanize.Time(x.Started), sent)
	}
	return t.Flush()
}

func newUploadsCancelCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "End an upload, and drop what has come of it",
		Long: `End an upload, and drop what has come of it. Its client, should it go on with it,
is told that there is no such upload, and begins anew. One to which a request is
sending at this moment is not ended: stop its client.`,
		Example: `  sociable uploads cancel 4a3f0a4c-6d1c-4bb7-9d5e-0c6a7b1f2e3d`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return usageError{errors.New("name one upload by its ID, as uploads lists it"), false}
			}
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				x, err := api.CancelUpload(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), x)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: upload cancelled, %s dropped\n", x.Repository, humanize.IBytes(uint64(x.Bytes)))
				return err
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// printNamespaces says how full each hosted namespace is; where quotas are not known,
// "?" stands for them.
func printNamespaces(w io.Writer, list []storage.NamespaceUse, known bool) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nNAMESPACE\tSTORED\tUPLOADS\tQUOTA\tUSED")
	for _, x := range list {
		quota, used := "-", "-"
		switch {
		case x.Quota > 0:
			quota, used = humanize.IBytes(uint64(x.Quota)), share(x.Bytes+x.UploadBytes, x.Quota)
		case !known:
			quota, used = "?", "?"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.Name, humanize.IBytes(uint64(x.Bytes)), humanize.IBytes(uint64(x.UploadBytes)), quota, used)
	}
	return t.Flush()
}
