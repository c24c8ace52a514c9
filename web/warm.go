package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// WarmRequest says which image is to be brought here, and how.
type WarmRequest struct {
	Name      string   `json:"name"`                // in any spelling
	Platforms []string `json:"platforms,omitempty"` // os/architecture[/variant]; none: all. An image that is for none of them fails
	OrOnly    bool     `json:"or_only,omitempty"`   // the image of a name that means no image index is taken, whatever it is for
	Referrers bool     `json:"referrers,omitempty"` // signatures and the like, too
	Pin       bool     `json:"pin,omitempty"`       // and kept, from before its first layer comes
	Index     bool     `json:"index,omitempty"`     // wait until it is indexed
	Lazy      bool     `json:"lazy,omitempty"`      // say which spans of its layers were read
	Here      bool     `json:"here,omitempty"`      // nothing is fetched: storage.ErrNotFound for what is missing
}

// WarmEvent is one line of the answer: exactly one is set. The last has Image or
// Error.
type WarmEvent struct {
	Progress *oci.PullProgress `json:"progress,omitempty"`
	Index    *oci.IndexState   `json:"index,omitempty"` // of the manifest that is waited for
	Image    *WarmImage        `json:"image,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// WarmImage is an image that is here.
type WarmImage struct {
	Name      string          `json:"name"`      // as it was asked for
	Reference string          `json:"reference"` // canonical
	Pulled    oci.PulledImage `json:"pulled"`
	Platforms []string        `json:"platforms,omitempty"` // that it is for, as far as is known
	Layers    int             `json:"layers"`              // that a rule wants indexed
	// Indexes are the SOCI indexes made here of its manifests, IndexBlobs what
	// these name.
	Indexes    []oci.PulledManifest `json:"indexes,omitempty"`
	IndexBlobs []v1.Descriptor      `json:"index_blobs,omitempty"`
	// Taken is what SOCI v2 indexes of these manifests name of starts.
	Taken  []bundle.Taken `json:"taken,omitempty"`
	Pinned bool           `json:"pinned,omitempty"`
	// Spans are of the layers that these zTOCs are of, where it was asked for.
	Spans []WarmSpans `json:"spans,omitempty"`
}

// imageRoutes are those about whole images.
func (s *Web) imageRoutes(life context.Context, m *mux.Router) {
	post := m.Methods(http.MethodPost).Subrouter()
	post.Path("/api/v1/warm").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		var q WarmRequest
		if err := receive(w, r, &q); err != nil {
			return err
		}
		return s.Warm(life, w, r, q)
	}))
	post.Path("/api/v1/import").Handler(oci.Handler(s.importImage))
	post.Path("/api/v1/import/trust").Handler(oci.Handler(s.trust))
	post.Path("/api/v1/spans").Handler(oci.Handler(s.sendSpans))
	m.Methods(http.MethodGet).Path("/api/v1/indexes/{manifest}/state").Handler(oci.Handler(s.indexState))
	m.Methods(http.MethodGet).Path("/api/v1/missing").Handler(oci.Handler(s.missing))
	s.blobRoutes(m)
}

var errNoImages = &oci.Error{Code: errcode.ErrorCodeUnsupported, Message: "no upstream is configured here"}

// Warm brings an image here and answers with a line of JSON for each WarmEvent. It
// ends when the client leaves, or with life.
func (s *Web) Warm(life context.Context, w http.ResponseWriter, r *http.Request, q WarmRequest) error {
	if s.opt.Images == nil {
		return errNoImages
	}
	if _, _, err := s.opt.Images.Name(q.Name); err != nil { // a mistake is no trouble of ours
		return err
	}
	if _, err := oci.ParsePlatforms(q.Platforms); err != nil {
		return wrong(err)
	}
	out, ctx, end := newStream(life, w, r)
	defer end()
	x, err := s.bring(ctx, q, out)
	if err != nil {
		s.log.WarnContext(ctx, "image not warmed", "name", q.Name, "err", err)
		out.tell(WarmEvent{Error: err.Error()})
		return nil
	}
	s.log.InfoContext(ctx, "image warmed", "name", x.Reference, "digest", x.Pulled.Root.Digest,
		"blobs", len(x.Pulled.Blobs), "bytes", x.Pulled.Fetched, "pinned", x.Pinned)
	out.tell(WarmEvent{Image: &x})
	return nil
}

func (s *Web) indexState(w http.ResponseWriter, r *http.Request) error {
	d, err := oci.ParseDigest(mux.Vars(r)["manifest"])
	if err != nil {
		return err
	}
	st := oci.IndexState{Done: true}
	if s.opt.Indexing != nil {
		if st, err = s.opt.Indexing.State(r.Context(), d); err != nil {
			return err
		}
	}
	return sendJSON(w, st)
}

// bring pulls, pins, waits for the index, and makes all of it durable.
func (s *Web) bring(ctx context.Context, q WarmRequest, out *stream) (x WarmImage, err error) {
	x.Name = q.Name
	repo, ref, err := s.opt.Images.Name(q.Name)
	if err != nil {
		return x, err
	}
	x.Reference = canonical(repo, ref)
	o := oci.PullOptions{Referrers: q.Referrers, Strict: !q.OrOnly, Here: q.Here, Progress: func(p oci.PullProgress) { out.often(WarmEvent{Progress: &p}) }}
	if o.Platforms, err = oci.ParsePlatforms(q.Platforms); err != nil {
		return x, err
	}
	if q.Pin { // before the layers: a store that is nearly full must not drop the first for the last
		o.Known = func(ctx context.Context, got oci.PulledImage) error {
			_, err := s.opt.Store.Pin(ctx, x.Reference, got.Root.Digest, attachedOf(got.Manifests)...)
			x.Pinned = err == nil
			return err
		}
	}
	if x.Pulled, err = s.opt.Images.Pull(ctx, repo, ref, o); err != nil {
		return x, err
	}
	if q.Index && s.opt.Indexing != nil {
		for _, m := range x.Pulled.Manifests {
			n, err := s.awaitIndex(ctx, m.Descriptor, out)
			if err != nil {
				return x, err
			}
			x.Layers += n
		}
	}
	if err := s.addIndexes(ctx, &x, q.Lazy); err != nil {
		return x, err
	}
	if err := s.addPlatforms(ctx, &x); err != nil {
		return x, err
	}
	if err := s.opt.Store.Flush(ctx); err != nil {
		return x, err
	}
	if q.Lazy {
		if err := s.addSpans(ctx, &x); err != nil {
			return x, err
		}
	}
	return x, s.opt.Store.Update(ctx, func(tx storage.Tx) error { return notMissing(tx, repo, ref, x.Pulled) })
}

// addIndexes finds the SOCI indexes that were made of what was pulled: those that
// are offered, or, where lazy says that they are to be of use without being made
// anew, those that name zTOCs alone.
func (s *Web) addIndexes(ctx context.Context, x *WarmImage, lazy bool) error {
	return s.opt.Store.View(ctx, func(tx storage.Tx) error {
		x.Indexes, x.IndexBlobs, x.Taken = nil, nil, nil
		for _, m := range x.Pulled.Manifests {
			if err := x.addTaken(tx, m.Digest); err != nil {
				return err
			}
			err := tx.Referrers(m.Digest, func(row storage.ReferrerRow) error {
				if row.Repo != (oci.Repo{}) || row.Descriptor.ArtifactType != oci.MediaTypeSOCIIndexV1 {
					return nil
				}
				index, err := tx.Manifest(row.Descriptor.Digest)
				if !lazy && err == nil {
					index, err = offered(tx, m.Digest, row.Descriptor.Digest)
				}
				if err != nil {
					return err
				}
				row.Descriptor.Digest, row.Descriptor.Size = index.Digest, index.Size
				x.Indexes = append(x.Indexes, oci.PulledManifest{Descriptor: row.Descriptor, Subject: m.Digest})
				x.IndexBlobs = append(x.IndexBlobs, *index.Manifest.Config)
				x.IndexBlobs = append(x.IndexBlobs, index.Manifest.Layers...)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// addPlatforms notes what an image is for: as its index says, or the image itself.
func (s *Web) addPlatforms(ctx context.Context, x *WarmImage) error {
	for _, m := range x.Pulled.Manifests {
		name := ""
		switch {
		case oci.RealPlatform(m.Platform):
			name = oci.PlatformName(*m.Platform)
		case m.Platform == nil:
			var err error
			if name, err = saidPlatform(ctx, s.opt.Store, m.Digest); err != nil {
				return err
			}
		}
		if name != "" && !slices.Contains(x.Platforms, name) {
			x.Platforms = append(x.Platforms, name)
		}
	}
	return nil
}

func canonical(repo oci.Repo, ref oci.Reference) string {
	if ref.Digest != "" {
		return repo.String() + "@" + ref.Digest.String()
	}
	return repo.String() + ":" + ref.Tag
}

const (
	// indexLook is how often it is looked whether an index is done.
	indexLook = 50 * time.Millisecond
	// indexTries is after how many tries to index a layer nobody waits for the
	// next one.
	indexTries = 3
)

// awaitIndex waits until nothing is left to do about a manifest's index, and
// says how many of its layers one was wanted of.
func (s *Web) awaitIndex(ctx context.Context, d v1.Descriptor, out *stream) (layers int, err error) {
	tick := time.NewTicker(indexLook)
	defer tick.Stop()
	for {
		st, err := s.opt.Indexing.State(ctx, d.Digest)
		switch {
		case err != nil:
			return 0, err
		case st.Done:
			return st.Layers, nil
		case st.Tries >= indexTries:
			return 0, fmt.Errorf("pulled, but %s is not indexed after %d tries: %s", d.Digest, st.Tries, st.Trouble)
		}
		out.often(WarmEvent{Index: &st})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
