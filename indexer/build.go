package indexer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

var (
	// errNotWanted: by now the layer has a zTOC, or can have none, or no image
	// wants it any more.
	errNotWanted = errors.New("layer is not wanted")
	// errGone: the layer is not whole in the store any more.
	errGone = errors.New("layer is not in the store")
	// errAgain: the layer is to be read once more, in another way.
	errAgain = errors.New("another image has the layer with another media type")
	// errMismatch: the bytes are not the layer's.
	errMismatch = errors.New("bytes do not match the layer's digest")
)

// headMax is more than any gzip header that a builder takes: fixed part, extra
// field, name and comment of under 512 bytes each, header CRC. headMin is what
// a layer's row keeps of its first bytes at least.
const (
	headMax = 10 + 2 + 0xffff + 2*512 + 2
	headMin = 512
)

// source is where a layer's bytes come from.
type source struct {
	open     func() (io.ReadCloser, error)
	verified bool // before the first byte; else by io.EOF
}

// outcome is what became of a layer's bytes: exactly one of built and refused.
type outcome struct {
	built   *built
	refused *refusal
	head    []byte
	bytes   int64
	spent   time.Duration // building, without waiting for bytes
}

// index builds the zTOC of k, files the result, and publishes the images that
// waited for it. An error leaves the layer wanted.
func (x *Indexer) index(ctx context.Context, k key, src source) error {
	c, size, err := x.compressionOf(ctx, k)
	if err != nil {
		return err
	}
	rc, err := src.open()
	if err != nil {
		return fmt.Errorf("open layer %s: %w", k.layer, err)
	}
	closeOnce := sync.OnceFunc(func() { _ = rc.Close() }) // only read from
	defer closeOnce()
	defer context.AfterFunc(ctx, closeOnce)()

	o, err := x.read(k, c, size, rc, src.verified)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("index layer %s: %w", k.layer, err)
	}
	if o.built != nil {
		defer o.built.body.Close()
	}
	if o.refused != nil && src.verified {
		if err := sound(ctx, k, src); err != nil {
			return fmt.Errorf("index layer %s: %w", k.layer, err)
		}
	}
	x.m.buildSeconds.Observe(o.spent.Seconds())
	x.m.buildBytes.Add(float64(o.bytes))
	return x.settle(ctx, k, c, o)
}

// sound hashes a stored layer that was refused: a verdict is for good, and it
// could be about bytes that were damaged since they were verified. errMismatch.
func sound(ctx context.Context, k key, src source) error {
	rc, err := src.open()
	if err != nil {
		return err
	}
	closeOnce := sync.OnceFunc(func() { _ = rc.Close() }) // only read from
	defer closeOnce()
	defer context.AfterFunc(ctx, closeOnce)()
	h := k.layer.Algorithm().Hash()
	if _, err := io.Copy(h, rc); err != nil {
		return err
	}
	if got := digest.NewDigest(k.layer.Algorithm(), h); got != k.layer {
		return fmt.Errorf("%w: they are %s", errMismatch, got)
	}
	return nil
}

// compressionOf says how to read k: as the first image, by digest, that wants
// it read in a way that was not tried yet. size is
// the layer's, or while it comes what is said of it.
func (x *Indexer) compressionOf(ctx context.Context, k key) (c compression, size int64, err error) {
	err = x.store.View(ctx, func(tx storage.Tx) error {
		row, err := tx.Layer(k.layer, k.spanSize)
		if errors.Is(err, storage.ErrNotFound) || err == nil && row.State != storage.LayerWanted {
			return errNotWanted
		}
		if err != nil {
			return err
		}
		size = row.Size
		c, err = untried(tx, k, row.Reason)
		if err == nil && c == "" {
			return errNotWanted
		}
		return err
	})
	if err == nil {
		var blob storage.BlobRow
		if blob, err = x.store.Stat(ctx, k.layer); err == nil {
			size = blob.Size
		} else {
			err = ignoreNotFound(err)
		}
	}
	if err != nil {
		return "", 0, fmt.Errorf("look up layer %s: %w", k.layer, err)
	}
	return c, size, nil
}

// pieces are what layers are read by, from one build to the next.
var pieces = sync.Pool{New: func() any { p := make([]byte, 256<<10); return &p }}

// read feeds a layer to a builder. When the builder refuses it, an unverified
// stream is read to its end all the same: only then the verdict is one about
// the layer.
func (x *Indexer) read(k key, c compression, size int64, r io.Reader, verified bool) (*outcome, error) {
	b, err := x.newBuilder(k.spanSize, c, size)
	if err != nil {
		return nil, fmt.Errorf("start builder: %w", err)
	}
	defer b.abort()
	o := &outcome{}
	read := x.counter(k)
	piece := pieces.Get().(*[]byte)
	defer pieces.Put(piece)
	buf := *piece
	for {
		n, rerr := r.Read(buf)
		o.bytes += int64(n)
		read.Add(int64(n))
		o.head = append(o.head, buf[:min(n, headMax-len(o.head))]...)
		if n > 0 && o.refused == nil {
			if err := o.write(b, buf[:n]); err != nil {
				return nil, err
			}
		}
		if o.refused != nil && verified || rerr == io.EOF {
			break
		}
		if rerr != nil {
			return nil, rerr
		}
	}
	if o.refused == nil {
		return o, o.finish(k, b)
	}
	if !verified && x.limits.zTOC(o.bytes) > x.limits.zTOC(size) && errors.Is(o.refused, ztoc.ErrTooLarge) {
		return nil, fmt.Errorf("it has %d bytes, where %d were said: %w", o.bytes, size, o.refused.err)
	}
	return o, nil
}

func (o *outcome) write(b builder, p []byte) error {
	began := time.Now()
	_, err := b.Write(p)
	o.spent += time.Since(began)
	if errors.As(err, &o.refused) {
		return nil
	}
	return err
}

func (o *outcome) finish(k key, b builder) error {
	began := time.Now()
	res, err := b.finish()
	o.spent += time.Since(began)
	if errors.As(err, &o.refused) {
		return nil
	}
	if err != nil {
		return err
	}
	if k.layer != "" && k.layer.Algorithm() == digest.SHA256 && res.layer != k.layer {
		_ = res.body.Close() // nothing was stored
		return fmt.Errorf("%w: they are %s", errMismatch, res.layer)
	}
	o.built = res
	o.head = o.head[:min(int64(len(o.head)), max(headMin, res.firstSpan))]
	return nil
}
