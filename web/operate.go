package web

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// PurgeRequest says what is to go.
type PurgeRequest struct {
	// Name is the digest of one blob, or an image: then all of it goes.
	Name   string `json:"name"`
	Block  bool   `json:"block,omitempty"`  // and is kept out from then on
	Reason string `json:"reason,omitempty"` // why, for those who list what is blocked
	Force  bool   `json:"force,omitempty"`  // immutable tags, and single blobs that were pushed, go too
	// KeepIndex has a layer, named by its digest, lose its file alone: ranges of it
	// are answered by its spans from then on.
	KeepIndex bool `json:"keep_index,omitempty"`
}

// Purged is what went.
type Purged struct {
	Name    string          `json:"name"`              // the digest, or the image's canonical reference
	Digest  digest.Digest   `json:"digest"`            // of the blob, or the image's manifest
	Freed   int64           `json:"freed"`             // bytes
	Blobs   int             `json:"blobs"`             // manifests, spans and what was made here included
	Shared  int             `json:"shared,omitempty"`  // that stayed, as something else here names them
	Blocked []digest.Digest `json:"blocked,omitempty"` // kept out from now on
}

// Purge drops one blob, with what was made of it, or an image of a repository; see storage.Store.PurgeImage. immutable reports tags that only
// q.Force purges; nil: none. storage.ErrPinned, storage.ErrImmutable,
// storage.ErrHosted, and storage.ErrNotFound for an image that is not known here.
func Purge(ctx context.Context, s *storage.Store, q PurgeRequest, immutable func(oci.Repo, string) bool) (Purged, error) {
	p, err := purge(ctx, s, q, immutable)
	if errors.Is(err, storage.ErrPinned) {
		err = fmt.Errorf("%w; sociable unpin lets it go", err)
	}
	if errors.Is(err, storage.ErrImmutable) || errors.Is(err, storage.ErrHosted) {
		err = fmt.Errorf("%w; purge --force takes it away all the same", err)
	}
	return p, err
}

func purge(ctx context.Context, s *storage.Store, q PurgeRequest, immutable func(oci.Repo, string) bool) (Purged, error) {
	if q.Reason != "" && !q.Block {
		return Purged{}, oci.NewError(errcode.ErrorCodeNameInvalid, "reason says why something is blocked, and goes with block; nothing was purged")
	}
	block := storage.BlockRow{Reason: q.Reason}
	if d, err := oci.ParseDigest(q.Name); err == nil {
		return purgeBlob(ctx, s, d, q, block)
	}
	x, err := resolve(ctx, s, q.Name)
	if err != nil {
		return Purged{}, err
	}
	o := storage.PurgeOptions{Repo: x.Repo, Root: x.Digest, Force: q.Force, Immutable: immutable}
	if block.Name = x.Reference; q.Block {
		o.Block = &block
	}
	p, err := s.PurgeImage(ctx, o)
	return Purged{x.Reference, x.Digest, p.Freed, p.Blobs, p.Shared, p.Blocked}, err
}

func purgeBlob(ctx context.Context, s *storage.Store, d digest.Digest, q PurgeRequest, block storage.BlockRow) (Purged, error) {
	out := Purged{Name: d.String(), Digest: d}
	err := s.View(ctx, func(tx storage.Tx) error {
		if err := storage.NotPinned(tx, d); err != nil || q.Force {
			return err
		}
		return storage.NotHosted(tx, d)
	})
	if err != nil {
		return out, err
	}
	if q.Block {
		block.Digest = d
		if err := s.Block(ctx, block); err != nil {
			return out, err
		}
		out.Blocked = []digest.Digest{d}
	}
	if q.KeepIndex {
		_, err = s.Stat(ctx, d)
		if err == nil {
			out.Blobs = 1
		} else if !errors.Is(err, storage.ErrNotFound) {
			return out, err
		}
		out.Freed, err = s.PurgeFile(ctx, d, q.Force)
		return out, err
	}
	p, err := s.PurgeBlob(ctx, d, q.Force)
	out.Freed, out.Blobs = p.Freed, p.Blobs
	return out, err
}

func resolve(ctx context.Context, s *storage.Store, word string) (x Named, err error) {
	err = s.View(ctx, func(tx storage.Tx) (err error) {
		x, err = Resolve(tx, word)
		return err
	})
	return x, err
}

// Blocks lists what is kept out, by digest.
func Blocks(ctx context.Context, s *storage.Store) ([]storage.BlockRow, error) {
	list := []storage.BlockRow{}
	err := s.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		return tx.Blocks(func(row storage.BlockRow) error {
			list = append(list, row)
			return nil
		})
	})
	return list, err
}

// Unblock lets in again what name, a digest or an image as it was blocked, kept
// out, and gives the digests. storage.ErrNotFound when nothing is blocked by it.
func Unblock(ctx context.Context, s *storage.Store, name string) ([]digest.Digest, error) {
	rows, err := Blocks(ctx, s)
	if err != nil {
		return nil, err
	}
	var ds []digest.Digest
	for _, row := range rows {
		if row.Digest.String() == name || row.Name != "" && means(name, row.Name) {
			ds = append(ds, row.Digest)
		}
	}
	if len(ds) == 0 {
		return nil, isNotHere("nothing is blocked by the name %.300q", name)
	}
	return ds, s.Unblock(ctx, ds...)
}

// Tag is a tag as it is known here.
type Tag struct {
	Reference string        `json:"reference"` // canonical
	Digest    digest.Digest `json:"digest"`    // where it leads, as far as is known
}

// errNoTag: an image was named that can't move.
var errNoTag = errors.New("only a tag can move: name the image by its tag")

// Refresh has the next request for a tag ask its upstream where it leads.
// storage.ErrNotFound for a tag that is not known: that is asked anyway;
// storage.ErrHosted for one that was pushed here, and leads where it was pushed to.
func Refresh(ctx context.Context, s *storage.Store, name string) (t Tag, err error) {
	err = s.Update(ctx, func(tx storage.Tx) error {
		x, err := Resolve(tx, name)
		if err != nil {
			return err
		}
		if x.Tag == "" {
			return fmt.Errorf("%.300q is a digest: %w", name, errNoTag)
		}
		row, err := tx.Tag(x.Repo, x.Tag)
		if err != nil {
			return err
		}
		if _, err := tx.Content(x.Repo, row.Digest); err == nil {
			return fmt.Errorf("%s was %w to this registry: there is no upstream to ask", x.Reference, storage.ErrHosted)
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		row.Checked = time.Time{}
		t = Tag{x.Reference, x.Digest}
		return tx.PutTag(row)
	})
	return t, err
}

// Pin is an image that is kept.
type Pin struct {
	Reference string        `json:"reference"` // canonical
	Digest    digest.Digest `json:"digest"`    // of the manifest or index that is kept, wherever the tag leads
	Blobs     int           `json:"blobs"`     // that it is made of, manifests included, as far as they are known; without SOCI indexes and zTOCs, which no eviction takes
	Here      int           `json:"here"`      // of these, stored; the rest is kept once it comes
	Bytes     int64         `json:"bytes"`     // stored
	Created   time.Time     `json:"created"`
}

// PinImage keeps an image. storage.ErrNotFound when it is not known here.
func PinImage(ctx context.Context, s *storage.Store, name string) (Pin, error) {
	x, err := resolve(ctx, s, name)
	if err != nil {
		return Pin{}, err
	}
	row, err := s.Pin(ctx, x.Reference, x.Digest)
	if err != nil {
		return Pin{}, err
	}
	var p Pin
	err = s.View(ctx, func(tx storage.Tx) (err error) {
		p, err = pinOf(s, tx, row)
		return err
	})
	return p, err
}

// Pins lists what is kept, by reference.
func Pins(ctx context.Context, s *storage.Store) ([]Pin, error) {
	list := []Pin{}
	err := s.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		return tx.Pins(func(row storage.PinRow) error {
			p, err := pinOf(s, tx, row)
			list = append(list, p)
			return err
		})
	})
	return list, err
}

func pinOf(s *storage.Store, tx storage.Tx, row storage.PinRow) (Pin, error) {
	p := Pin{Reference: row.Reference, Digest: row.Root, Blobs: len(row.Holds), Created: row.Created}
	for _, d := range row.Holds {
		blob, err := s.BlobIn(tx, d)
		if err == nil {
			p.Here++
			p.Bytes += blob.Size
		} else if !errors.Is(err, storage.ErrNotFound) {
			return p, err
		}
	}
	return p, nil
}

// Unpin lets an image go. It is named as in the list of pins, or in any of its
// spellings; its tag may have moved. A pin that can't be read is in no list, and is
// named as a check names it. storage.ErrNotFound.
func Unpin(ctx context.Context, s *storage.Store, name string) (Pin, error) {
	list, err := Pins(ctx, s)
	if err != nil {
		return Pin{}, err
	}
	var found *Pin
	for i := range list {
		p := &list[i]
		if p.Reference == name { // to the letter: that is it
			return *p, s.Unpin(ctx, p.Reference)
		}
		if !means(name, p.Reference) && p.Digest.String() != name {
			continue
		}
		if found != nil {
			return Pin{}, fmt.Errorf("%q could mean %s or %s: %w", name, found.Reference, p.Reference, errAmbiguous)
		}
		found = p
	}
	if found == nil {
		err := s.View(ctx, func(tx storage.Tx) error { _, err := tx.Pin(name); return err })
		if errors.Is(err, storage.ErrUnreadable) {
			return Pin{Reference: name}, s.Unpin(ctx, name)
		}
		return Pin{}, isNotHere("nothing is pinned by the name %.300q", name)
	}
	return *found, s.Unpin(ctx, found.Reference)
}
