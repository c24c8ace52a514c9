package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// bundles does for the API what the commands export and import do: through the
// server's own socket, as they would.
type bundles struct {
	life   context.Context // ends with the server
	socket string
	images web.Images
	log    *slog.Logger
}

// exportParallel is how many images are pulled at once, as by the command.
const exportParallel = 2

// Export answers with a bundle of the images, or with an error before its first
// byte. One that fails behind it cuts the connection.
func (b *bundles) Export(w http.ResponseWriter, r *http.Request, q web.ExportRequest) error {
	for _, name := range q.Names {
		if _, _, err := b.images.Name(name); err != nil {
			return err
		}
	}
	if _, err := oci.ParsePlatforms(q.Platforms); err != nil {
		return &oci.Error{Code: errcode.ErrorCodeNameInvalid, Message: err.Error(), Err: err}
	}
	ctx, c, end := b.begin(r)
	defer end()
	results, images := bringAll(ctx, c, q.Names, web.WarmRequest{
		Platforms: q.Platforms, Index: true, Referrers: true, Here: q.NoPull, Lazy: q.LazyOnly,
	}, exportParallel, nil)
	if err := warmFailed(results); err != nil {
		return conflict(fmt.Errorf("nothing was written: %w: %s", err, firstFailure(results)))
	}
	plan, err := planBundle(images, nil, &exported{})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", `attachment; filename="bundle.tar"`)
	to := &receiver{w: w}
	out := bufio.NewWriterSize(to, 1<<20)
	err = plan.Write(out, blobsOf(ctx, c, images, progress{}))
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		level := slog.LevelWarn
		if to.left || r.Context().Err() != nil {
			level = slog.LevelInfo // who hangs up knows
		}
		b.log.Log(ctx, level, "bundle not written to its end", "err", err)
		panic(http.ErrAbortHandler) // a short answer is not to look like a whole one
	}
	b.log.InfoContext(ctx, "done by the API", "command", "export", "images", len(images), "bytes", plan.Bytes())
	return nil
}

// receiver is a client that may hang up.
type receiver struct {
	w    io.Writer
	left bool // it did
}

func (c *receiver) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.left = c.left || err != nil
	return n, err
}

// Import takes the images of the bundle that is the request's body.
func (b *bundles) Import(r *http.Request, o web.ImportOptions) (*web.ImportReport, error) {
	ctx, c, end := b.begin(r)
	defer end()
	in, err := bundle.NewReader(bufio.NewReaderSize(r.Body, 1<<20))
	if err != nil {
		return nil, noBundle(err)
	}
	x, results, err := takeBundle(ctx, c, in, progress{}, o)
	if errors.Is(err, bundle.ErrBundle) {
		return nil, noBundle(err)
	}
	if err != nil {
		return nil, conflict(err)
	}
	report := x.report(results)
	b.log.InfoContext(ctx, "done by the API", "command", "import", "images", len(results), "bytes", report.Bytes)
	for i := range results {
		if results[i].Error != "" {
			return nil, conflict(fmt.Errorf("%w: %s: %s", importFailed(results), results[i].Reference, results[i].Error))
		}
	}
	return &report, nil
}

// begin gives a context that ends with the request or the server, and a client of
// the server's socket.
func (b *bundles) begin(r *http.Request) (context.Context, *adminClient, func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(b.life, func() { cancel(context.Cause(b.life)) })
	c := newAdminClient(b.socket)
	return ctx, c, func() {
		stop()
		cancel(nil)
		_ = c.Close() // it has no errors
	}
}

func noBundle(err error) error {
	return &oci.Error{Code: errcode.ErrorCodeNameInvalid, Status: http.StatusBadRequest, Message: "the body is no bundle: " + err.Error(), Err: err}
}

// conflict is what stands in the way of an operator's request, in its own words.
func conflict(err error) error {
	return &oci.Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusConflict, Message: err.Error(), Err: err}
}

func firstFailure(results []warmed) string {
	for _, r := range results {
		if r.Error != "" {
			return strings.TrimSuffix(r.Name+": "+r.Error, "\n")
		}
	}
	return ""
}
