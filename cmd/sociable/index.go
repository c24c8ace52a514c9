package main

import (
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func newIndexCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Look at what has been indexed, or index an OCI layout",
		Args:  subcommandOnly,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIndexCreateCommand(), newIndexListCommand(), newIndexInfoCommand(), newIndexRemoveCommand())
	return cmd
}

// storeFlags are the flags of commands that look into a store.
type storeFlags struct {
	dataDir string
	config  configFlags // only its file
	json    bool
}

func (f *storeFlags) register(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&f.config.file, "config", "c", "", "look into the store of the configuration in `FILE` (storage.path)")
	cmd.Flags().StringVar(&f.dataDir, "data", "", "look into the store in `FOLDER` (that of --config, $SOCIABLE_STORAGE_PATH, ./data, or the service's)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.PreRunE = func(cmd *cobra.Command, args []string) (err error) {
		f.dataDir, err = f.config.dataDir(cmd, f.dataDir, args...)
		return err
	}
}

// shortDigest is enough of a digest for people, and for index info.
func shortDigest(d digest.Digest) string {
	const hex = 12
	if d.Validate() != nil {
		return "-"
	}
	return d.Algorithm().String() + ":" + d.Encoded()[:hex]
}

// indexedLayers counts an image's layers that have a zTOC.
func indexedLayers(x IndexInfo) (n int) {
	for _, l := range x.Layers {
		if l.ZTOC != "" {
			n++
		}
	}
	return n
}
