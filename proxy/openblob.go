package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// OpenBlob reads a blob of repo from its first byte, as it comes from upstream. It
// is kept on the way, unless the store has no room for it. io.EOF comes only
// behind the last byte of a blob that matched its digest. storage.ErrNotFound.
func (p *Proxy) OpenBlob(ctx context.Context, repo oci.Repo, d v1.Descriptor) (io.ReadCloser, error) {
	x, err := p.puller(repo)
	if err != nil {
		return nil, err
	}
	src, err := x.open(ctx, d)
	if err != nil {
		return nil, absent(err)
	}
	return p.stream(ctx, src, oci.Range{Off: 0, End: src.size()})
}

// open finds where a blob comes from, once repo is known to have it.
func (x *pull) open(ctx context.Context, d v1.Descriptor) (source, error) {
	st, err := x.p.known(ctx, x.repo, d.Digest)
	if err != nil {
		return nil, err
	}
	if (st.row == nil || !st.entitled) && x.up.Registry == nil {
		return nil, fmt.Errorf("blob %s of %s: %w", d.Digest, x.repo, storage.ErrNotFound)
	}
	if st.row != nil && !st.entitled {
		if err := x.p.prove(ctx, x.up, x.repo, d.Digest, st); err != nil {
			return nil, err
		}
	}
	src, err := x.p.source(ctx, x.up, x.repo, d.Digest, st, nil)
	if err != nil {
		return nil, err
	}
	if err := x.wantSize(src.size(), d); err != nil {
		src.close()
		return nil, err
	}
	return src, nil
}

// wantSize compares what upstream says of a blob, -1 for nothing, with d.
func (x *pull) wantSize(n int64, d v1.Descriptor) error {
	if n < 0 || n == d.Size {
		return nil
	}
	return &oci.Error{Code: errcode.ErrorCodeSizeInvalid, Status: http.StatusBadGateway, Message: fmt.Sprintf(
		"blob %s of %s has %d bytes, its manifest says %d", d.Digest, x.repo, n, d.Size)}
}

// stream is a source as a reader, of which Read gets all that comes.
type stream struct {
	*io.PipeReader
	end func()
}

// stream reads that part of src, which it closes, as it would be sent to a client.
func (p *Proxy) stream(ctx context.Context, src source, of oci.Range) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	stop := context.AfterFunc(p.life, func() {
		cancel()
		_ = r.CloseWithError(errShutdown) // never fails
	})
	started := p.work.start(func() {
		defer src.close()
		_ = w.CloseWithError(absent(src.copyRange(ctx, w, of))) // nil is io.EOF
	})
	if !started {
		stop()
		cancel()
		src.close()
		return nil, errShutdown
	}
	return &stream{r, func() { stop(); cancel() }}, nil
}

// Close has the source closed, which others may go on filling.
func (s *stream) Close() error {
	s.end()
	return s.PipeReader.Close()
}
