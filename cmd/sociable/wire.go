package main

import (
	"context"
	"errors"
	"log/slog"
)

// runServer serves cfg until ctx ends, then stops within cfg.ShutdownTimeout.
func runServer(ctx context.Context, cfg *Config, logger *slog.Logger) error {
	return errors.New("serving is not wired yet")
}
