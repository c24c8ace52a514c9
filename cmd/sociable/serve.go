package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func newServeCommand() *cobra.Command {
	var flags configFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM or SIGINT; open responses then have shutdown_timeout
to finish, and a second signal ends it at once. Flags win over SOCIABLE_
environment variables, these over the file, the file over the defaults.`,
		Example: `  sociable serve
  sociable serve --upstream mirror=http://127.0.0.1:5005 --data /tmp/try
  sociable serve --config config.yml`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := flags.load(cmd)
			if err != nil {
				return err
			}
			logger := newLogger(cfg.Log, cmd.ErrOrStderr())
			for _, w := range warnings {
				logger.Warn("doubtful configuration", "what", w)
			}
			return serve(cmd.Context(), cfg, logger)
		},
	}
	flags.register(cmd)
	return cmd
}

// serve runs the server until a signal. The second one finds no handler left
// and kills the process.
func serve(ctx context.Context, cfg *Config, logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	defer relaxCollector()()
	defer shareProcs()()
	err := runServer(ctx, cfg, logger)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// newLogger makes the logger that log.level and log.format ask for.
func newLogger(cfg LogConfig, w io.Writer) *slog.Logger {
	var opt slog.HandlerOptions
	switch cfg.Level {
	case "debug":
		opt.Level = slog.LevelDebug
	case "warn":
		opt.Level = slog.LevelWarn
	case "error":
		opt.Level = slog.LevelError
	}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &opt))
	}
	return slog.New(slog.NewTextHandler(w, &opt))
}
