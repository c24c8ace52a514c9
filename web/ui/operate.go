package ui

import (
	"context"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
	"github.com/sociable/sociable/web/catalog"
)

// What follows are the commands of the same names, for programs.

// Named is the body of requests about one image.
type Named struct {
	Name string `json:"name"` // in any spelling
}

// Warm says which image is to be brought here, and how.
type Warm struct {
	Name      string   `json:"name"`                // in any spelling
	Platforms []string `json:"platforms,omitempty"` // os/architecture[/variant]; none: all. An image that is for none of them fails
	Referrers bool     `json:"referrers,omitempty"` // signatures and the like, too
	Pin       bool     `json:"pin,omitempty"`       // and kept, from before its first layer comes
	Index     bool     `json:"index,omitempty"`     // wait until it is indexed
}

func (u *UI) operateRoutes() []apiRoute {
	return []apiRoute{
		{"GET", "/stats", "name", answer(u.stats)},
		{"GET", "/pins", "", answer(func(r *http.Request) (*[]web.Pin, error) {
			list, err := web.Pins(r.Context(), u.opt.Store)
			return &list, err
		})},
		{"POST", "/pin", "", byName(u, "pin", web.PinImage)},
		{"POST", "/unpin", "", byName(u, "unpin", web.Unpin)},
		{"POST", "/refresh", "", byName(u, "refresh", web.Refresh)},
		{"POST", "/purge", "", answer(u.purge)},
		{"GET", "/blocks", "", answer(func(r *http.Request) (*[]storage.BlockRow, error) {
			list, err := web.Blocks(r.Context(), u.opt.Store)
			return &list, err
		})},
		{"POST", "/unblock", "", byName(u, "unblock", web.Unblock)},
		{"POST", "/warm", "", u.warm},
		{"GET", "/uploads", "", answer(func(r *http.Request) (*[]storage.UploadInfo, error) {
			list, err := u.opt.Store.OpenUploads(r.Context())
			return &list, err
		})},
		{"POST", "/uploads/cancel", "", answer(u.cancelUpload)},
		{"POST", "/gc", "", told("gc", u.opt.GC)},
		{"POST", "/fsck", "", told("fsck", u.opt.Fsck)},
		{"POST", "/export", "", u.export},
		{"POST", "/import", "no_pin no_wait trust_spans", answer(u.importBundle)},
	}
}

// byName is a request that does something about the image that its body names.
func byName[T any](u *UI, command string, do func(ctx context.Context, s *storage.Store, name string) (T, error)) oci.Handler {
	return answer(func(r *http.Request) (*T, error) {
		var q Named
		if err := receive(r, &q); err != nil {
			return nil, err
		}
		if q.Name == "" {
			return nil, bad("name the image")
		}
		x, err := do(r.Context(), u.opt.Store, q.Name)
		if err != nil {
			return nil, web.OperatorError(err)
		}
		u.log.InfoContext(r.Context(), "done by the API", "command", command, "name", q.Name)
		return &x, nil
	})
}

// stats says what indexing is good for: of one image, or of those that gain most.
func (u *UI) stats(r *http.Request) (*web.Stats, error) {
	u.fresh(r.Context())
	name := r.FormValue("name")
	if name == "" {
		p := u.opt.Catalog.Page(catalog.Query{Sort: catalog.BySaved, Down: true, Limit: shownImages})
		hosted, err := u.namespaces(r.Context())
		return &web.Stats{Totals: p.Totals, Images: p.Images, Namespaces: hosted}, err
	}
	s, err := web.StatsOf(r.Context(), u.opt.Store, name)
	if err != nil {
		return nil, web.OperatorError(err)
	}
	return &s, nil
}

func (u *UI) purge(r *http.Request) (*web.Purged, error) {
	var q web.PurgeRequest
	if err := receive(r, &q); err != nil {
		return nil, err
	}
	if q.Name == "" {
		return nil, bad("name the image, or the digest of a blob")
	}
	p, err := web.Purge(r.Context(), u.opt.Store, q, u.opt.Immutable)
	if err != nil {
		return nil, web.OperatorError(err)
	}
	u.log.InfoContext(r.Context(), "purged", "name", p.Name, "digest", p.Digest, "bytes", p.Freed, "blobs", p.Blobs, "blocked", len(p.Blocked))
	return &p, nil
}

var errNothingPulled = oci.NewError(errcode.ErrorCodeUnsupported, "nothing is pulled through here")

// warm answers with a line of JSON for each web.WarmEvent.
func (u *UI) warm(w http.ResponseWriter, r *http.Request) error {
	var q Warm
	if err := receive(r, &q); err != nil {
		return err
	}
	if q.Name == "" {
		return bad("name the image")
	}
	if u.opt.Warm == nil {
		return errNothingPulled
	}
	return u.opt.Warm(w, r, web.WarmRequest{Name: q.Name, Platforms: q.Platforms, Referrers: q.Referrers, Pin: q.Pin, Index: q.Index})
}

// told passes a request on to what answers it as it goes on.
func told[Q any](command string, do func(http.ResponseWriter, *http.Request, Q) error) oci.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		var q Q
		if err := receive(r, &q); err != nil {
			return err
		}
		if do == nil {
			return oci.NewError(errcode.ErrorCodeUnsupported, "there is no %s here", command)
		}
		return do(w, r, q)
	}
}
