package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// source is one blob's bytes, wherever they are. prepare does what can still
// fail with an answer; after copyRange began, a fault can only cut the body.
type source interface {
	size() int64 // -1 only from a fill that is read whole
	prepare(ctx context.Context, r oci.Range) (outcome, error)
	copyRange(ctx context.Context, w io.Writer, r oci.Range) error
	close()
}

// blob answers GET and HEAD of a blob (distribution specification, "Pulling blobs").
func (p *Proxy) blob(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.route(r, oci.ActionPull)
	if err != nil {
		return err
	}
	d, err := oci.ParseDigest(mux.Vars(r)["digest"])
	if err != nil {
		return err
	}
	note(r).digest = d.String()
	if done, err := p.headPassed(w, r, up, repo, d); done {
		return err
	}
	ctx := r.Context()
	st, err := p.lookup(ctx, up, repo, d)
	if err != nil {
		return blobError(d, err)
	}
	if up.Hosted && (r.Method == http.MethodHead || r.Header.Get("If-None-Match")+r.Header.Get("If-Match") != "") {
		if err := p.whole(ctx, d, st); err != nil {
			return blobError(d, err)
		}
	}
	if encodable(st) {
		w.Header().Add("Vary", "Accept-Encoding")
	}
	if done, err := p.preconditions(w, r, up, repo, d, st); done {
		return err
	}
	if r.Method == http.MethodHead {
		return p.headBlob(w, r, up, repo, d, st)
	}
	if encodes(r, st) {
		if done, err := p.serveEncoded(w, r, repo, st); done {
			return err
		}
	}
	specs := oci.ParseRange(r.Header.Get("Range"))
	if ir := r.Header.Get("If-Range"); ir != "" && ir != etag(d) {
		specs = nil
	}
	a := &ask{up: up, repo: repo, d: d}
	if a.src, err = p.source(ctx, up, repo, d, st, specs); refusesCaller(err) { // another one, maybe
		a.src, err = p.passSource(ctx, asker{up, repo}, d, specs, nil, err)
	}
	if err != nil {
		return notImported(d, st, err)
	}
	defer func() { a.src.close() }()
	if specs == nil {
		return p.serveWhole(w, r, a)
	}
	switch a.src.(type) {
	case *fileSource, *importedSource, *passSource: // nothing is fetched for it, or kept
	default:
		p.brought(up, repo, d, 1, 0, a.src.size())
	}
	return p.serveRanges(w, r, a, specs)
}

// notModified tells a client that has the blob that it still is what it was:
// once this repository was found to have it.
func (p *Proxy) notModified(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest, st stored) error {
	out := outcomeHit
	if !st.entitled {
		if err := p.prove(r.Context(), up, repo, d, st); err != nil {
			return blobError(d, err)
		}
		out = outcomeMiss
	}
	blobHeaders(w, d)
	w.Header().Set("Etag", entityTag(r, st, d))
	p.outcome(w, r, out)
	w.WriteHeader(http.StatusNotModified)
	return nil
}

// ask is a GET of a blob that has found where its bytes come from.
type ask struct {
	up   *Upstream
	repo oci.Repo
	d    digest.Digest
	src  source
}

// prepare waits until r can be sent. A store that does not take the bytes is no
// reason to refuse them, nor is that upstream refused another caller in whose name
// they were being fetched: they are passed on then, without being kept.
func (p *Proxy) prepare(ctx context.Context, a *ask, r oci.Range) (outcome, error) {
	out, err := a.src.prepare(ctx, r)
	var e keepError
	if !errors.As(err, &e) && !refusesCaller(err) {
		return out, err
	}
	pass := &passSource{p: p, up: a.up, repo: a.repo, d: a.d, n: a.src.size()}
	if was, ok := a.src.(*fillSource); ok {
		pass.takeOver(was)
		pass.alsoWentBy(was.f)
	}
	pass.noted(ctx, err)
	a.src.close()
	a.src = pass
	return pass.prepare(ctx, r)
}

// stored is what is known here of a blob that a repository has.
type stored struct {
	entitled bool
	row      *storage.BlobRow  // whole here
	layer    *storage.LayerRow // indexed here
	part     *storage.PartialRow
	imported *storage.ImportedRow // spans of it came in a bundle
	of       digest.Digest        // what a blob made here was made from
}

// lookup finds, in one transaction, whether repo has d and what is here of it.
// What is here and was not proven for repo is asked upstream; what is not here
// is proven by the transfer itself.
func (p *Proxy) lookup(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest) (stored, error) {
	st, err := p.known(ctx, repo, d)
	if err != nil || st.entitled {
		return st, err
	}
	at, filling := p.filling(up, d)
	if st.row == nil && st.layer == nil && st.part == nil && st.imported == nil && (!filling || at == repo) {
		return st, nil
	}
	if err := p.prove(ctx, up, repo, d, st); err != nil {
		return st, err
	}
	st.entitled = true
	return st, nil
}

func (p *Proxy) known(ctx context.Context, repo oci.Repo, d digest.Digest) (st stored, err error) {
	err = p.store.View(ctx, func(tx storage.Tx) error {
		if err := storage.NotBlocked(tx, d); err != nil {
			return err
		}
		row, err := tx.Blob(d)
		switch {
		case err == nil:
			st.row, st.of = &row, derivedFrom(row)
			p.store.Used(row) // by a HEAD, too: who asks need not push it
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		if st.entitled, err = p.has(tx, repo, d, st.of); err != nil || st.row != nil {
			return err
		}
		if part, err := tx.Partial(d); err == nil && part.Source == repo.Upstream {
			st.part = &part
		}
		if imported, err := tx.Imported(d); err == nil {
			st.imported = &imported
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		return tx.Layers(d, func(l storage.LayerRow) error {
			if l.State == storage.LayerIndexed && st.layer == nil {
				st.layer = &l
			}
			return nil
		})
	})
	if err != nil {
		return st, fmt.Errorf("look up %s: %w", d, err)
	}
	if st.row == nil { // promoted, and its row not yet written
		if row, serr := p.store.Stat(ctx, d); serr == nil {
			st.row = &row
		}
	}
	return st, nil
}

// source opens d where it is best had from.
func (p *Proxy) source(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, st stored, specs []oci.RangeSpec) (source, error) {
	for {
		src, err := p.sourceOf(ctx, up, repo, d, st, specs)
		if !errors.Is(err, errCame) {
			return src, err
		}
		if st, err = p.lookup(ctx, up, repo, d); err != nil {
			return nil, err
		}
	}
}

// sourceOf is source by what st says is here; errCame where that is less than
// there is by now.
func (p *Proxy) sourceOf(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, st stored, specs []oci.RangeSpec) (source, error) {
	if st.row != nil {
		b, err := p.store.OpenRow(ctx, *st.row)
		if err == nil {
			return &fileSource{p, d, b}, nil
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return nil, fmt.Errorf("open %s: %w", d, err)
		}
	}
	if src, err := p.importedSource(ctx, st, specs); src != nil || err != nil {
		return src, err
	}
	if specs != nil && st.layer != nil {
		if table := p.table(ctx, *st.layer); table != nil {
			open := specs[0].First >= 0 && specs[0].Last < 0
			return newSpanSource(p, up, repo, *st.layer, table, open), nil
		}
	}
	src, err := p.fillSource(ctx, up, repo, d, st, specs)
	if e, ok := errors.AsType[keepError](err); ok {
		return p.passSource(ctx, asker{up, repo}, d, specs, nil, e)
	}
	if err != nil {
		return nil, err
	}
	if src.unkept == nil {
		return src, nil
	}
	defer src.close()
	return p.passSource(ctx, asker{up, repo}, d, specs, src, src.unkept)
}

func (p *Proxy) headBlob(w http.ResponseWriter, r *http.Request, up *Upstream, repo oci.Repo, d digest.Digest, st stored) error {
	size, out := int64(-1), outcomeHit
	switch {
	case st.row != nil:
		size = st.row.Size
	case st.layer != nil:
		size = st.layer.Size
	case st.part != nil:
		size = st.part.Size
	case st.imported != nil:
		size = st.imported.Size
	}
	if size < 0 {
		n, err := p.headOf(r.Context(), up, repo, d, false)
		if err != nil {
			return blobError(d, err)
		}
		size, out = n, outcomeMiss
	}
	blobHeaders(w, d)
	p.outcome(w, r, out)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

// serveWhole sends the blob from its first byte to its last.
func (p *Proxy) serveWhole(w http.ResponseWriter, r *http.Request, a *ask) error {
	out, err := p.prepare(r.Context(), a, oci.Range{Off: 0, End: a.src.size()})
	if err != nil {
		return a.fault(err)
	}
	src := a.src
	blobHeaders(w, a.d)
	p.outcome(w, r, out)
	if n := src.size(); n >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	w.WriteHeader(http.StatusOK)
	p.body(w, r, func(out io.Writer) error {
		return src.copyRange(r.Context(), out, oci.Range{Off: 0, End: src.size()})
	})
	p.pulled(r, a.repo, blobTarget(a.d, src.size()), "")
	return nil
}

// body sends a response's body, once its header is out. The kernel copies no file into
// a connection that is encrypted, or has several streams: net/http would, by 32 KiB at
// a time, so that this is hidden from send.
func (p *Proxy) body(w http.ResponseWriter, r *http.Request, send func(io.Writer) error) {
	out := newPatient(w)
	defer out.done()
	if r.TLS != nil || r.ProtoMajor != 1 {
		p.cut(r, send(struct{ io.Writer }{out}))
		return
	}
	p.cut(r, send(out))
}

// cut ends a response whose body came to a fault half-way: the connection
// breaks, so that no client takes it for a whole one.
func (p *Proxy) cut(r *http.Request, err error) {
	if err == nil {
		return
	}
	note(r).err = err
	panic(http.ErrAbortHandler)
}

func blobHeaders(w http.ResponseWriter, d digest.Digest) {
	h := w.Header()
	h["Content-Type"], h["Accept-Ranges"], h["Cache-Control"] = octets, byteRanges, forEver
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", etag(d))
}

// Header values that many answers share. Nobody changes them: what sets a header
// anew replaces the slice, what adds to one has no room in it.
var (
	octets     = []string{"application/octet-stream"}
	byteRanges = []string{"bytes"}
	forEver    = []string{"max-age=31536000, immutable"}
	apiVersion = []string{"registry/2.0"}
)

func etag(d digest.Digest) string { return `"` + d.String() + `"` }

// clientError is a client that went away.
type clientError struct{ error }

func (e clientError) Unwrap() error { return e.error }

// blobError gives a fault the code that fits a blob.
func blobError(d digest.Digest, err error) error {
	if errors.Is(err, upstream.ErrOffline) {
		return offlineError(fmt.Sprintf("blob %s", d), errcode.ErrorCodeBlobUnknown, 0, err)
	}
	if upstream.IsNotFound(err) || errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeBlobUnknown, Message: fmt.Sprintf("blob %s is not known to this repository", d), Err: err}
	}
	return edge(fmt.Sprintf("blob %s", d), err)
}
