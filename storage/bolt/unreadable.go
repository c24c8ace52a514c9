package bolt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// A row that can't be read is one that is not there, for whoever asks for it. It
// is told, and the transaction remembers that it came across one.

// told remembers which rows were told of, as far as maxTold.
type told struct {
	log *slog.Logger
	mu  sync.Mutex
	m   map[string]bool
}

const maxTold = 1000

func newTold(log *slog.Logger) *told {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &told{log: log, m: map[string]bool{}}
}

func (l *told) tell(row storage.UnreadableRow, err error) {
	l.mu.Lock()
	key := row.Table + string(row.Key)
	known := l.m[key] || len(l.m) >= maxTold
	if !known {
		l.m[key] = true
	}
	l.mu.Unlock()
	if !known {
		l.log.Error("a row can't be read, and counts as absent: sociable fsck --repair puts that right", "row", row.String(), "err", err)
	}
}

// unreadable notes that the row under key can't be read for err.
func (t tx) unreadable(bucket, key []byte, err error) error {
	t.unread++
	row := tableOf(bucket).row(bytes.Clone(key)) // or the keys of all look-ups would be on the heap
	t.told.tell(row, err)
	return fmt.Errorf("%w: %s: %w", storage.ErrUnreadable, row, err)
}

// skip leaves out a row that can't be read for err: that it is told is enough.
func (t tx) skip(bucket, key []byte, err error) error {
	_ = t.unreadable(bucket, key, err)
	return nil
}

func (t tx) Unread() int { return t.unread }

var errLength = errors.New("it has a wrong length")

func (t tx) Unreadable(fn func(storage.UnreadableRow) error) error {
	for _, b := range tables() {
		err := t.scan(b.bucket, nil, nil, func(k, v []byte) error {
			if b.fault(t, k, v) == nil {
				return nil
			}
			return fn(b.row(bytes.Clone(k)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t tx) DropUnreadable(row storage.UnreadableRow) error {
	b := tableOf([]byte(row.Table))
	if b == nil {
		return fmt.Errorf("%w: no rows %q", errKey, row.Table)
	}
	v := t.t.Bucket(b.bucket).Get(row.Key)
	if v == nil || b.fault(t, row.Key, v) == nil {
		return nil // somebody put it anew
	}
	v = bytes.Clone(v)
	return errors.Join(t.drop(b, row), t.putBack(row.Table, v))
}

func (t tx) drop(b *table, row storage.UnreadableRow) error {
	if b.row(row.Key).BadKey { // nothing is filed of it
		return t.t.Bucket(b.bucket).Delete(row.Key)
	}
	switch row.Table {
	case storage.TableContent:
		return t.forgetContent(row.Repo, row.Digest)
	case string(bucketContentByDigest):
		return t.fileAgain(row)
	case string(bucketContentBytes):
		return t.putContentBytes(string(row.Key))
	}
	return t.forget(b.bucket, row.Key)
}

// putBack puts what only a person could say again, and was under another key, where v
// says that it belongs, unless that is taken.
func (t tx) putBack(table string, v []byte) error {
	switch table {
	case storage.TableTags:
		return putAbsent(v, func(r storage.TagRow) error {
			_, bad := tagOfKey(r)
			_, err := t.Tag(r.Repo, r.Tag)
			return cmp.Or(bad, err)
		}, t.PutTag)
	case storage.TableContent:
		return putAbsent(v, func(r storage.ContentRow) error { _, err := t.Content(r.Repo, r.Digest); return err }, t.PutContent)
	case storage.TableReferrers:
		return putAbsent(v, func(r storage.ReferrerRow) error {
			_, err := t.Referrer(r.Repo, r.Subject, r.Descriptor.Digest)
			return err
		}, t.PutReferrer)
	case storage.TablePins:
		return putAbsent(v, func(r storage.PinRow) error {
			bad := t.eachPinKey(r, func([]byte) error { return nil })
			_, err := t.Pin(r.Reference)
			return cmp.Or(bad, err)
		}, t.PutPin)
	case storage.TableBlocks:
		return putAbsent(v, func(r storage.BlockRow) error { _, err := t.Block(r.Digest); return err }, t.PutBlock)
	}
	return nil
}

func putAbsent[R any](v []byte, get, put func(R) error) error {
	var row R
	if json.Unmarshal(v, &row) != nil {
		return nil // nor does its value say where
	}
	err := get(row)
	if errors.Is(err, storage.ErrNotFound) {
		err = put(row)
	}
	if errors.Is(err, errKey) || errors.Is(err, errRow) {
		return nil // it is no such row, and nothing was put
	}
	return err
}

// fileAgain files content as its row says.
func (t tx) fileAgain(row storage.UnreadableRow) error {
	content, err := t.contentOfFiled(row.Key)
	if errors.Is(err, storage.ErrNotFound) {
		err = t.t.Bucket(bucketContentByDigest).Delete(row.Key)
	} else if err == nil {
		err = t.fileContent(content)
	}
	return errors.Join(err, t.putContentBytes(row.Repo.Upstream))
}

// filings are the buckets in which rows are filed, too, with where in a key there
// that of the row begins.
var filings = []struct {
	of, in []byte
	own    func(k []byte) []byte
}{
	{bucketTags, bucketTagsByDigest, behindDigest},
	{bucketManifests, bucketManifestsByNamed, behindDigest},
	{bucketImages, bucketImagesByLayer, behindDigest},
	{bucketPins, bucketPinsByDigest, behindDigest},
	{bucketJobs, bucketJobsByOrder, behindOrder},
	{bucketTasks, bucketTasksByOrder, behindOrder},
}

func behindDigest(k []byte) []byte {
	_, rest, _ := cutDigest(k)
	return rest
}

func behindOrder(k []byte) []byte { return k[min(orderLen, len(k)):] }

// forget deletes a row that can't say under what it is filed, and looks for that.
func (t tx) forget(bucket, key []byte) error {
	for _, f := range filings {
		if !bytes.Equal(f.of, bucket) {
			continue
		}
		var keys [][]byte // a cursor does not outlive a change
		err := t.scan(f.in, nil, nil, func(k, _ []byte) error {
			if bytes.Equal(f.own(k), key) {
				keys = append(keys, bytes.Clone(k))
			}
			return nil
		})
		for _, k := range keys {
			err = errors.Join(err, t.t.Bucket(f.in).Delete(k))
		}
		if err != nil {
			return err
		}
	}
	return t.t.Bucket(bucket).Delete(key)
}

// tagByDigest gives a tag that can't be read, for bad, as far as it is filed.
func (t tx) tagByDigest(repo oci.Repo, tag string, key []byte, bad error) (storage.TagRow, error) {
	var ds []digest.Digest
	err := t.scan(bucketTagsByDigest, nil, nil, func(k, _ []byte) error {
		if d, rest, err := cutDigest(k); err == nil && bytes.Equal(rest, key) {
			ds = append(ds, d)
		}
		return nil
	})
	if err != nil || len(ds) != 1 {
		return storage.TagRow{}, errors.Join(bad, err)
	}
	return storage.TagRow{Repo: repo, Tag: tag, Digest: ds[0]}, nil
}

// contentByDigest gives content that can't be read, for bad, as far as it is filed
// and its blob is here.
func (t tx) contentByDigest(repo oci.Repo, d digest.Digest, bad error) (storage.ContentRow, error) {
	key, err := rightKey(repo, d)
	if err != nil {
		return storage.ContentRow{}, err
	}
	filed := t.t.Bucket(bucketContentByDigest).Get(key)
	blob, err := t.Blob(d)
	if err != nil || filed == nil {
		return storage.ContentRow{}, bad
	}
	_, err = t.Manifest(d)
	row := storage.ContentRow{Repo: repo, Digest: d, Size: blob.Size, Manifest: err == nil || errors.Is(err, storage.ErrUnreadable), Pushed: blob.Created}
	if len(filed) > 0 { // its blob is here, so it is not lost
		row.Released = blob.Accessed
	}
	return row, nil
}

// forgetContent undoes PutContent of a row that can't be read.
func (t tx) forgetContent(repo oci.Repo, d digest.Digest) error {
	key, err := contentKey(repo, d)
	if err != nil {
		return err
	}
	byDigest, err := rightKey(repo, d)
	if err != nil {
		return err
	}
	err = errors.Join(t.t.Bucket(bucketContent).Delete(key), t.t.Bucket(bucketContentByDigest).Delete(byDigest), t.DeleteRight(repo, d))
	if err != nil {
		return err
	}
	return t.putContentBytes(repo.Upstream)
}

// mendContentBytes counts anew where the sum can't be read.
func (t tx) mendContentBytes(upstream string) error {
	if v := t.t.Bucket(bucketContentBytes).Get([]byte(upstream)); len(v) == 0 || len(v) == 8 {
		return nil
	}
	return t.putContentBytes(upstream)
}

func (t tx) putContentBytes(upstream string) error {
	sum, err := t.sumContent(upstream)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketContentBytes).Put([]byte(upstream), binary.BigEndian.AppendUint64(nil, uint64(sum))) //nolint:gosec // of sizes
}

// sumContent counts the content of upstream's repositories, each digest once.
func (t tx) sumContent(upstream string) (sum int64, err error) {
	prefix, err := upstreamPrefix(make([]byte, 0, keyRoom), upstream)
	if err != nil {
		return 0, err
	}
	seen := map[digest.Digest]bool{}
	err = scanRows(t, bucketContent, prefix, func(row storage.ContentRow) error {
		if row.Counts() && !seen[row.Digest] {
			seen[row.Digest] = true
			sum += row.Size
		}
		return nil
	})
	return sum, err
}
