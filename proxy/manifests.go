package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// manifest answers GET and HEAD of a manifest (distribution specification,
// "Pulling manifests").
func (p *Proxy) manifest(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.route(r, oci.ActionPull)
	if err != nil {
		return err
	}
	ref, err := oci.ParseReference(mux.Vars(r)["reference"])
	if err != nil {
		return err
	}
	note(r).reference = ref.String()
	head := r.Method == http.MethodHead
	var got found
	if ref.Digest != "" {
		got, err = p.manifestByDigest(r.Context(), up, repo, ref.Digest, head)
	} else {
		got, err = p.manifestAtTag(r.Context(), up, repo, ref.Tag, head)
	}
	if err == nil && !head {
		got, err = p.withBody(r.Context(), up, repo, got)
	}
	if err == nil && got.out != outcomeHit { // what upstream says has not been looked at yet
		err = p.store.View(r.Context(), func(tx storage.Tx) error { return storage.NotBlocked(tx, got.desc.Digest) })
	}
	if errors.Is(err, storage.ErrNotFound) || upstream.IsNotFound(err) {
		if served, err := p.fallbackTag(w, r, up, repo, ref.Tag); served {
			return err
		}
	}
	if err != nil {
		return manifestError(repo, ref, err)
	}
	note(r).digest = got.desc.Digest.String()
	return p.sendManifest(w, r, repo, ref, got)
}

// found is the manifest that a reference led to.
type found struct {
	desc   v1.Descriptor
	out    outcome
	stale  error   // why a cached tag was served unchecked
	filing *filing // not stored yet; nil: it is, or is not going to be
	body   []byte  // of one that is not stored yet, or is about to be sent
	made   bool    // here, of another one
}

// maxManifests bounds the manifests that are kept in memory, in bytes.
const maxManifests = 32 << 20

// cachedManifest is a verified manifest in memory. Whether it may still be
// served is a matter of the rows.
type cachedManifest struct {
	desc v1.Descriptor
	body []byte
}

func (m cachedManifest) cost() int64 { return int64(len(m.body)) + 512 }

// storedManifest gives the descriptor of a manifest that has its rows here, and
// what it was made from where it was made here.
func (p *Proxy) storedManifest(tx storage.Tx, d digest.Digest) (desc v1.Descriptor, blob storage.BlobRow, err error) {
	if err = storage.NotBlocked(tx, d); err != nil {
		return desc, blob, err
	}
	if blob, err = tx.Blob(d); err != nil {
		return desc, blob, err
	}
	p.store.Used(blob) // bytes that are in memory are not read
	if m, ok := p.bodies.get(d); ok {
		return m.desc, blob, nil
	}
	row, err := tx.Manifest(d)
	return descriptor(row), blob, err
}

func (p *Proxy) sendManifest(w http.ResponseWriter, r *http.Request, repo oci.Repo, ref oci.Reference, got found) error {
	h := w.Header()
	d := got.desc.Digest
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", etag(d))
	h.Set("Vary", "Accept")
	p.outcome(w, r, got.out)
	if got.stale != nil {
		// The form that the specification gives warnings ("Warnings").
		h.Set("Warning", `299 - "stale: the upstream could not be asked whether this tag has moved"`)
		p.log.WarnContext(r.Context(), "cached tag served unchecked", "repo", repo, "ref", ref, "err", got.stale)
	}
	if match(r.Header.Get("If-None-Match"), etag(d)) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", got.desc.MediaType)
	h.Set("Content-Length", strconv.FormatInt(got.desc.Size, 10))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(got.body) // a client that left is nobody's loss
	if r.Method == http.MethodGet && !oci.StartsNothing(r) {
		p.store.Pulled(d)
		if got.made && p.opt.Starts != nil {
			p.opt.Starts.Manifest(r, repo, d)
		}
	}
	p.pulled(r, repo, got.desc, ref.Tag)
	return nil
}

// manifestByDigest finds a manifest that never changes: upstream is asked for
// it once, and once for each further repository that wants it.
func (p *Proxy) manifestByDigest(ctx context.Context, up *Upstream, repo oci.Repo, d digest.Digest, head bool) (found, error) {
	var desc v1.Descriptor
	var st stored
	err := p.store.View(ctx, func(tx storage.Tx) error {
		got, blob, err := p.storedManifest(tx, d)
		if err != nil {
			return err
		}
		if up.Hosted && derivedFrom(blob) == "" { // what is a manifest elsewhere may be mere bytes here
			content, err := tx.Content(repo, d)
			if err == nil && !content.Manifest {
				err = fmt.Errorf("manifest %s: %w", d, storage.ErrNotFound)
			}
			if err != nil {
				return err
			}
		}
		desc, st.row, st.of = got, &blob, derivedFrom(blob)
		st.entitled, err = p.has(tx, repo, d, st.of)
		return err
	})
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if got, ok := p.filings.get(repo, oci.Reference{Digest: d}); ok {
			return got, nil
		}
		if head {
			if got, ok := p.arrived(ctx, up, repo, oci.Reference{Digest: d}, ""); ok {
				return got, nil
			}
			desc, err := up.Registry.HeadManifest(ctx, repo.Name, oci.Reference{Digest: d})
			return found{desc: desc, out: outcomeMiss}, err
		}
		return p.fetchManifest(ctx, up, repo, oci.Reference{Digest: d}, "")
	case err != nil:
		return found{}, fmt.Errorf("look up manifest %s: %w", d, err)
	}
	out := outcomeHit
	if !st.entitled {
		if err := p.prove(ctx, up, repo, d, st); err != nil {
			return found{}, err
		}
		out = outcomeMiss
		p.tellIndexer(ctx, repo, d)
	}
	return found{desc: desc, out: out, made: st.row.Kind == storage.KindIndex}, nil
}

// tellIndexer gives it a manifest that is stored and has come up in one more
// repository.
func (p *Proxy) tellIndexer(ctx context.Context, repo oci.Repo, d digest.Digest) {
	var row storage.ManifestRow
	err := p.store.View(ctx, func(tx storage.Tx) (err error) {
		row, err = tx.Manifest(d)
		return err
	})
	if err == nil {
		err = p.index.Manifest(ctx, repo, row)
	}
	if err != nil {
		p.log.ErrorContext(ctx, "manifest not given to the indexer", "digest", d, "err", err)
	}
}

func descriptor(row storage.ManifestRow) v1.Descriptor {
	return v1.Descriptor{MediaType: row.Manifest.MediaType, Digest: row.Digest, Size: row.Size}
}

// fetchTime bounds the transfer of one manifest, for which many may wait: an
// upstream that sends it in drops is as good as none.
const fetchTime = time.Minute

// fetchManifest gets a manifest, and has it stored and the indexer told behind
// the answer. Callers who want the same one at the same time share the request.
// A tag is expected to lead to want, if that is not "".
func (p *Proxy) fetchManifest(ctx context.Context, up *Upstream, repo oci.Repo, ref oci.Reference, want digest.Digest) (found, error) {
	return p.manifests.do(ctx, repo.String()+"@"+ref.String()+" "+up.Identity.String(), func(ctx context.Context) (found, error) {
		if got, ok := p.arrived(ctx, up, repo, ref, want); ok {
			return got, nil
		}
		ctx, cancel := context.WithTimeout(ctx, fetchTime)
		defer cancel()
		m, err := up.Registry.Manifest(ctx, repo.Name, ref)
		if err != nil {
			return found{}, err
		}
		row, err := manifestRow(repo, m)
		if err != nil {
			return found{}, err
		}
		return p.file(up, repo, ref, m, row), nil
	})
}

// manifestRow reads what an upstream's manifest says.
func manifestRow(repo oci.Repo, m *upstream.Manifest) (storage.ManifestRow, error) {
	d := m.Descriptor.Digest
	parsed, err := oci.ParseManifest(m.Body, m.Descriptor.MediaType)
	if err != nil {
		return storage.ManifestRow{}, &oci.Error{
			Code: errcode.ErrorCodeManifestInvalid, Status: http.StatusBadGateway, Err: err,
			Message: fmt.Sprintf("the upstream's manifest %s in %s is not valid", d, repo),
		}
	}
	return storage.ManifestRow{Digest: d, Size: int64(len(m.Body)), Manifest: *parsed}, nil
}

// storeManifest stores the bytes, what they say, the repository's right and the
// tags that are known to mean it, all in one transaction.
func (p *Proxy) storeManifest(ctx context.Context, up *Upstream, repo oci.Repo, ref oci.Reference, m *upstream.Manifest, row storage.ManifestRow) error {
	d := row.Digest
	blob := storage.BlobRow{Digest: d, Size: row.Size, Kind: storage.KindManifest, Created: p.now(), Accessed: p.now()}
	heard := p.heard.of(right{repo, d}, p.now())
	if ref.Tag != "" {
		heard = append(heard, heardTag{ref.Tag, p.now()})
	}
	err := p.store.Put(ctx, blob, m.Body, func(tx storage.Tx) error {
		if err := storage.NotBlocked(tx, d); err != nil {
			return err
		}
		if p.superseded(up) {
			return errSuperseded
		}
		if err := tx.PutManifest(row); err != nil {
			return err
		}
		if err := tx.PutRight(repo, d); err != nil {
			return err
		}
		for _, t := range heard {
			if err := t.file(tx, right{repo, d}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store manifest %s: %w", d, err)
	}
	return nil
}

// kindOf says what ref is, for a person.
func kindOf(ref oci.Reference) string {
	if ref.Tag != "" {
		return "tag " + ref.Tag
	}
	return "manifest " + ref.String()
}

func manifestError(repo oci.Repo, ref oci.Reference, err error) error {
	if errors.Is(err, upstream.ErrOffline) {
		return offlineError(fmt.Sprintf("%s of %s", ref, repo), errcode.ErrorCodeManifestUnknown, 0, err)
	}
	if upstream.IsNotFound(err) || errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeManifestUnknown, Message: fmt.Sprintf("%s is not known in %s", kindOf(ref), repo), Err: err}
	}
	return edge(fmt.Sprintf("manifest %s of %s", ref, repo), err)
}
