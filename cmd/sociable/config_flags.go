package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

// configFlags are the flags of every command that needs the whole configuration.
type configFlags struct {
	file      string
	upstreams []string
	hosted    []string
}

// flagPaths are the flags that set one key each.
var flagPaths = []struct{ flag, path, usage string }{
	{"listen", "listen", "`HOST:PORT` to serve the registry on (127.0.0.1:5000)"},
	{"admin", "admin.listen", "`HOST:PORT` of the dashboard, its API, metrics and health (127.0.0.1:5001)"},
	{"data", "storage.path", "keep everything in `FOLDER` (./data)"},
	{"log-level", "log.level", "log from `LEVEL` on: debug, info, warn or error (info)"},
}

func (f *configFlags) register(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "read `FILE`, such as config.yml")
	for _, p := range flagPaths {
		cmd.Flags().String(p.flag, "", p.usage)
	}
	cmd.Flags().StringArrayVar(&f.upstreams, "upstream", nil, "add a registry, or replace its URL: `NAME=URL`; repeatable")
	cmd.Flags().StringArrayVar(&f.hosted, "hosted", nil, "take pushes below `PREFIX`/ and keep them here (local); repeatable")
}

// dataDir is the folder that a command looks for its store in: flag, that of --data,
// else what the configuration says, as the server that is started with it has it, and
// else where a command looks that was told nothing.
func (f *configFlags) dataDir(cmd *cobra.Command, flag string, args ...string) (string, error) {
	switch {
	case flag != "":
		return flag, nil
	case f.file == "":
		return findDataDir(cmd, args...), nil
	}
	cfg, _, err := f.load(cmd)
	if err != nil {
		return "", err
	}
	if cfg.Storage.Path == Default().Storage.Path {
		return findDataDir(cmd, args...), nil
	}
	return cfg.Storage.Path, nil
}

// load reads the configuration that cmd was started with.
func (f *configFlags) load(cmd *cobra.Command) (*Config, []string, error) {
	src := sources{File: f.file, Environ: os.Environ(), Upstreams: f.upstreams, Hosted: f.hosted}
	for _, p := range flagPaths {
		if fl := cmd.Flags().Lookup(p.flag); fl != nil && fl.Changed {
			src.Flags = append(src.Flags, override{"--" + p.flag, p.path, fl.Value.String()})
		}
	}
	cfg, warnings, err := load(src)
	if err != nil {
		return nil, warnings, usageError{err, !errors.As(err, new(*fs.PathError))} // else there is no line to name
	}
	cfg.again = func() (*Config, []string, error) { return f.load(cmd) }
	return cfg, warnings, nil
}
