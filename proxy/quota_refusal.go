package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

const (
	// openPause is when a client may try again for whom only uploads that are under
	// way left no room.
	openPause = 10 * time.Second
	// filedPause is when one may who seems to send what somebody else has just sent.
	filedPause = time.Second
	// lately is how long before an upload begins its client may have looked whether
	// the blob is there.
	lately = 10 * time.Second
	// maxUnnamed bounds the rows that a refusal looks at, maxCompared the blobs.
	maxUnnamed, maxCompared = 5000, 16
)

// refusal is refuse of this upload. Where the repository has had the same bytes for a
// moment the client, who finds them now, may try again.
func (s *push) refusal(ctx context.Context, a account, more int64) (*oci.Error, error) {
	if s.pusher != nil {
		return refusePassing(s.up, s.quota(), a), nil
	}
	var e *oci.Error
	err := s.p.store.View(ctx, func(tx storage.Tx) error {
		e = refuse(tx, s.up, a)
		return nil
	})
	if err != nil || s.d != "" || a.alone(s.up.Hosting.Quota) {
		return e, err
	}
	same, err := s.pushedBefore(ctx, more)
	if same != "" {
		e.Code, e.RetryAfter = errcode.ErrorCodeTooManyRequests, filedPause
		e.Message += fmt.Sprintf("; but %s, which begins with the same bytes, was pushed to %s meanwhile: whoever looks for it finds it", same, s.repo)
	}
	return e, err
}

// pushedBefore gives a blob that the repository has had since shortly before this
// upload began, and that it seems to repeat.
func (s *push) pushedBefore(ctx context.Context, more int64) (digest.Digest, error) {
	var rows []storage.ContentRow
	since, size := s.u.Started().Add(-lately), s.u.Size()+more
	err := s.p.store.View(ctx, func(tx storage.Tx) error {
		rows = nil
		enough, n := errors.New("enough"), 0
		err := tx.Contents(s.repo, func(row storage.ContentRow) error {
			if !row.Manifest && row.Released.IsZero() && row.Pushed.After(since) && row.Size >= size {
				rows = append(rows, row)
			}
			if n++; n == maxUnnamed || len(rows) == maxCompared {
				return enough
			}
			return nil
		})
		if errors.Is(err, enough) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", err
	}
	for _, row := range rows {
		if s.u.Size() == 0 && row.Size != size { // its size is all that is known
			continue
		}
		b, err := s.p.store.Open(ctx, row.Digest)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		same, err := s.u.Repeats(ctx, b)
		if err := errors.Join(err, b.Close()); err != nil {
			return "", err
		}
		if same {
			return row.Digest, nil
		}
	}
	return "", nil
}

// refusePassing is refuse of an upload that goes through to an upstream.
func refusePassing(up *Upstream, most int64, a account) *oci.Error {
	bytes := func(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
	if !a.alone(most) {
		return oci.NewError(errcode.ErrorCodeDenied, "a blob of %s or more is not taken: unfinished uploads to %s may take %s here (uploads.upstream_bytes): push it there directly, or raise that",
			bytes(a.own), up.Name, bytes(most))
	}
	return &oci.Error{Code: errcode.ErrorCodeTooManyRequests, RetryAfter: openPause, Message: fmt.Sprintf(
		"unfinished uploads to %s take %s of the %s that they may here (uploads.upstream_bytes): try again when some are through (sociable uploads lists them)", up.Name, bytes(a.open), bytes(most))}
}

// refuse says that there is no room for a, why, and what to do about it. Where it is
// only uploads that take the room, it may be there soon.
func refuse(tx storage.Tx, up *Upstream, a account) *oci.Error {
	bytes := func(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
	e := oci.NewError(errcode.ErrorCodeDenied, "%s would exceed the quota of %s, %s: ", moreThan(a.own, up.Hosting.Quota-a.stored-a.open), up.Name, bytes(up.Hosting.Quota))
	under := "uploads that are under way " + bytes(a.open) + "; "
	raise := fmt.Sprintf("or raise hosted.%s.quota", up.Name)
	if a.alone(up.Hosting.Quota) {
		e.Code, e.RetryAfter = errcode.ErrorCodeTooManyRequests, openPause
		e.Message += "its images take " + bytes(a.stored) + ", " + under + "try again when these are through, " + raise
		return e
	}
	unnamed, whole, err := storage.Unnamed(tx, up.Name, maxUnnamed)
	if err != nil { // it is about the words alone
		unnamed = 0
	}
	e.Message += "its images take " + bytes(a.stored-unnamed) + ", "
	if unnamed > 0 {
		least := ""
		if !whole {
			least = "at least "
		}
		e.Message += fmt.Sprintf("layers that no image names, of pushes under way or given up, %s%s, ", least, bytes(unnamed))
	}
	e.Message += under
	if unnamed > 0 {
		e.Message += "run sociable gc --grace 10m, which drops those that nobody has gone on with for ten minutes and not for gc.grace, "
	}
	if a.stored > unnamed {
		e.Message += "delete images there, by digest, "
	}
	if a.stored == 0 {
		raise = strings.TrimPrefix(raise, "or ")
	}
	e.Message += raise
	return e
}

// moreThan says how much more is wanted than is left: in bytes where both would read the same.
func moreThan(own, left int64) string {
	in := func(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
	if in(own) == in(left) {
		in = func(n int64) string { return fmt.Sprintf("%d B", max(0, n)) }
	}
	return fmt.Sprintf("%s more, where %s are left,", in(own), in(left))
}

// isFull says of what the store is full, and what to do about it.
func isFull(u storage.Usage) string {
	bytes := func(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
	uploads := ""
	if u.Open.Bytes > 0 {
		uploads = fmt.Sprintf(" and %s of unfinished uploads (sociable uploads lists them)", bytes(u.Open.Bytes))
	}
	return fmt.Sprintf("this registry is full: hosted and pinned images%s fill storage.max_bytes (%s) or the disk; delete images and run sociable gc --grace 10m, or raise it",
		uploads, bytes(u.Limit))
}
