package ui

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"sync"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/ztoc"
)

const (
	// keptTrees is how many trees are kept, for those who look around in one.
	keptTrees = 4
	// mostFiles bounds the files of the layers below that are compared with.
	mostFiles = 400_000
	// smallLayer is the largest layer without a zTOC of which the files are read
	// from the layer itself, compressed bytes; smallPlain bounds what comes out.
	smallLayer = 16 << 20
	smallPlain = 256 << 20
	// shownFiles is how many files of a folder, or of a search, a page has.
	shownFiles = 300
)

// trees makes them, one at a time, since each takes memory.
type trees struct {
	mu   sync.Mutex
	kept *lru.Cache[string, *tree]
}

func newTrees() *trees {
	kept, err := lru.New[string, *tree](keptTrees)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &trees{kept: kept}
}

// table is an open zTOC.
type table struct {
	*ztoc.ZTOC
	close func()
}

// errNoFiles: the files of a layer are not known here.
var errNoFiles = errors.New("the layer has no zTOC here, and is not whole here or too large to be read without one")

// openTable opens a layer's zTOC, or makes one in memory where it is small.
func (u *UI) openTable(ctx context.Context, il *storage.ImageLayer) (*table, error) {
	var row storage.LayerRow
	err := u.opt.Store.View(ctx, func(tx storage.Tx) (err error) {
		if il.SpanSize > 0 {
			row, err = tx.Layer(il.Descriptor.Digest, il.SpanSize)
		}
		return ignoreNotFound(err)
	})
	if err != nil {
		return nil, err
	}
	if row.State != storage.LayerIndexed {
		return u.makeTable(ctx, il.Descriptor.Digest)
	}
	b, err := u.opt.Store.Open(ctx, row.ZTOC)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", errNoFiles, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open zTOC %s: %w", row.ZTOC, err)
	}
	z, err := ztoc.Parse(b, b.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read zTOC %s: %w", row.ZTOC, err), b.Close())
	}
	return &table{z, func() { _ = b.Close() }}, nil // only read from
}

// makeTable indexes a small layer that is whole here, for the moment.
func (u *UI) makeTable(ctx context.Context, d digest.Digest) (*table, error) {
	row, err := u.opt.Store.Stat(ctx, d)
	if errors.Is(err, storage.ErrNotFound) || err == nil && row.Size > smallLayer {
		return nil, errNoFiles
	}
	if err != nil {
		return nil, err
	}
	b, err := u.opt.Store.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	head := make([]byte, min(512, b.Size()))
	if _, err := b.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	kind, err := ztoc.Detect(head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoFiles, err)
	}
	z, err := ztoc.NewBuilder(ztoc.DefaultSpanSize, ztoc.Options{
		Compression: kind, SkipLayerDigest: true, MaxUncompressed: smallPlain, MaxEntries: mostFiles, MaxTOCBytes: 64 << 20,
	})
	if err != nil {
		return nil, err
	}
	defer z.Abort()
	if _, err = io.Copy(z, io.NewSectionReader(b, 0, b.Size())); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoFiles, err)
	}
	made, err := z.Finish()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoFiles, err)
	}
	defer func() { _ = made.Close() }() // what it spilled is gone with it
	var raw bytes.Buffer
	if _, err := made.WriteTo(&raw); err != nil {
		return nil, err
	}
	parsed, err := ztoc.Parse(bytes.NewReader(raw.Bytes()), int64(raw.Len()))
	return &table{parsed, func() {}}, err
}

// tree gives the files of the layer that v is of.
func (u *UI) tree(ctx context.Context, v *LayerView) (*tree, error) {
	key := string(v.Digest) + string(v.Image) + strconv.Itoa(v.Position) + string(v.ZTOC)
	u.trees.mu.Lock()
	defer u.trees.mu.Unlock()
	if t, ok := u.trees.kept.Get(key); ok {
		return t, nil
	}
	own, err := u.filesOf(ctx, v.use(), true)
	if err != nil {
		return nil, err
	}
	below, unknown := map[string]low{}, 0
	for i := range v.below {
		f, err := u.filesOf(ctx, &v.below[i], false)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil || len(below) > mostFiles {
			unknown++ // whatever is wrong with it is told where it is looked at
			continue
		}
		f.over(below)
	}
	t := newTree(own, below, unknown)
	u.trees.kept.Add(key, t)
	return t, nil
}

func (v *LayerView) use() *storage.ImageLayer {
	il := &storage.ImageLayer{SpanSize: v.SpanSize}
	il.Descriptor.Digest, il.Descriptor.Size = v.Digest, v.Size
	return il
}

func (u *UI) filesOf(ctx context.Context, il *storage.ImageLayer, spans bool) (*layerFiles, error) {
	z, err := u.openTable(ctx, il)
	if err != nil {
		return nil, err
	}
	defer z.close()
	spanOf := z.SpanOf
	if !spans || il.SpanSize == 0 {
		spanOf = nil
	}
	return readFiles(z.Entries(), spanOf)
}

// Files is one folder of a layer, or what was searched.
type Files struct {
	Path    string  `json:"path"`
	Search  string  `json:"search,omitempty"`
	Changes Changes `json:"changes"`
	Files   []*Item `json:"files"`
	More    int     `json:"more,omitempty"` // that are not shown
	layer   *LayerView
}

func (u *UI) files(r *http.Request) (*Files, error) {
	d, err := digestOf(r)
	if err != nil {
		return nil, err
	}
	v, err := u.look(r.Context(), d, r.FormValue("image"))
	if err != nil {
		return nil, err
	}
	f, err := u.list(r, v)
	if errors.Is(err, errNoFiles) {
		return nil, &oci.Error{Code: errcode.ErrorCodeBlobUnknown, Message: "files of " + d.String() + ": " + errNoFiles.Error(), Err: err}
	}
	return f, err
}

func (u *UI) list(r *http.Request, v *LayerView) (*Files, error) {
	t, err := u.tree(r.Context(), v)
	if err != nil {
		return nil, err
	}
	f := &Files{Path: clean(r.FormValue("path")), Search: r.FormValue("search"), Changes: t.Changes, Files: []*Item{}, layer: v}
	if f.Search != "" {
		found, matches := t.search(f.Search, shownFiles)
		f.Files, f.More = append(f.Files, found...), matches-len(found)
		return f, nil
	}
	list, ok := t.kids[f.Path]
	if !ok && f.Path != "" && !t.folder(f.Path) {
		return nil, oci.NewError(errcode.ErrorCodeBlobUnknown, "layer %s has no folder %.300q", v.Digest, f.Path)
	}
	f.Files = append(f.Files, list[:min(len(list), shownFiles)]...)
	f.More = len(list) - len(f.Files)
	return f, nil
}

// file sends one file out of a layer. The spans that hold it are fetched where
// they are not here; the layer is not pulled.
func (u *UI) file(w http.ResponseWriter, r *http.Request) error {
	d, err := digestOf(r)
	if err != nil {
		return err
	}
	name := r.FormValue("name")
	if name == "" {
		return oci.NewError(errcode.ErrorCodeNameInvalid, "name says which file")
	}
	v, err := u.look(r.Context(), d, r.FormValue("image"))
	if err != nil {
		return err
	}
	z, err := u.openTable(r.Context(), v.use())
	if errors.Is(err, errNoFiles) {
		return &oci.Error{Code: errcode.ErrorCodeBlobUnknown, Message: "files of " + d.String() + ": " + errNoFiles.Error(), Err: err}
	}
	if err != nil {
		return err
	}
	defer z.close()
	e, err := z.File(name)
	switch {
	case errors.Is(err, ztoc.ErrNotFound):
		return &oci.Error{Code: errcode.ErrorCodeBlobUnknown, Message: fmt.Sprintf("layer %s has no file %.300q", d, name), Err: err}
	case errors.Is(err, ztoc.ErrUnsupported):
		return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusBadRequest, Message: fmt.Sprintf("%.300q is no regular file, or a sparse one", name), Err: err}
	case err != nil:
		return err
	}
	out := &attachment{w: w, name: path.Base(clean(name)), size: e.Size}
	if r.Method == http.MethodHead {
		out.begin()
		return nil
	}
	src, done, err := u.bytesOf(r.Context(), v)
	if err != nil {
		return err
	}
	defer done()
	if _, err = z.ReadRange(r.Context(), e.Offset, e.Size, src, out); err != nil && out.begun {
		u.log.WarnContext(r.Context(), "file cut short", "digest", d, "file", name, "err", err)
		panic(http.ErrAbortHandler)
	}
	if err == nil {
		out.begin()
	}
	return err
}

// bytesOf opens a layer's bytes, wherever they are.
func (u *UI) bytesOf(ctx context.Context, v *LayerView) (io.ReaderAt, func(), error) {
	b, err := u.opt.Store.Open(ctx, v.Digest)
	if err == nil {
		return b, func() { _ = b.Close() }, nil // only read from
	}
	if !errors.Is(err, storage.ErrNotFound) || u.opt.Ranges == nil || v.repo == (oci.Repo{}) {
		return nil, nil, err
	}
	return &layerReader{ctx, u.opt.Ranges, v.repo, v.Digest, v.Size}, func() {}, nil
}

// attachment sends a download's headers before its first byte, so that what went
// wrong until then is an answer. Whatever is in a layer is no page of ours.
type attachment struct {
	w     http.ResponseWriter
	name  string
	size  int64
	begun bool
}

func (a *attachment) begin() {
	if a.begun {
		return
	}
	a.begun = true
	h := a.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(a.size, 10))
	h.Set("Content-Disposition", disposition(a.name))
	a.w.WriteHeader(http.StatusOK)
}

func (a *attachment) Write(p []byte) (int, error) {
	a.begin()
	return a.w.Write(p)
}

// ztoc sends a layer's zTOC.
func (u *UI) ztoc(w http.ResponseWriter, r *http.Request) error {
	d, err := digestOf(r)
	if err != nil {
		return err
	}
	v, err := u.look(r.Context(), d, r.FormValue("image"))
	if err != nil {
		return err
	}
	if v.ZTOC == "" {
		return oci.NewError(errcode.ErrorCodeBlobUnknown, "layer %s has no zTOC: %s", d, cmp.Or(v.Reason, string(v.State)))
	}
	b, err := u.opt.Store.Open(r.Context(), v.ZTOC)
	if err != nil {
		return err
	}
	defer b.Close()
	a := &attachment{w: w, name: v.ZTOC.Encoded()[:12] + ".ztoc", size: b.Size()}
	w.Header().Set("Docker-Content-Digest", v.ZTOC.String())
	a.begin()
	_, _ = io.Copy(a, io.NewSectionReader(b, 0, b.Size())) // a client that left is nobody's loss
	return nil
}
