package bolt

import (
	"bytes"
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
	row := unreadableRow(bucket, bytes.Clone(key)) // or the keys of all look-ups would be on the heap
	t.told.tell(row, err)
	return fmt.Errorf("%w: %s: %w", storage.ErrUnreadable, row, err)
}

func (t tx) Unread() int { return t.unread }

var errLength = errors.New("it has a wrong length")

// readers tell whether rows can be read, by their buckets, in the order in which
// they are looked at.
var readers = []struct {
	bucket []byte
	read   func(v []byte) error
}{
	{bucketBlobs, func(v []byte) error { _, err := decodeBlobRow("", v); return err }},
	{bucketPartials, readJSON[storage.PartialRow]},
	{bucketManifests, readJSON[storage.ManifestRow]},
	{bucketContent, readJSON[storage.ContentRow]},
	{bucketContentBytes, func(v []byte) error {
		if len(v) != 8 {
			return errLength
		}
		return nil
	}},
	{bucketTags, readJSON[storage.TagRow]},
	{bucketReferrers, readJSON[storage.ReferrerRow]},
	{bucketUpstreamReferrers, readJSON[storage.UpstreamReferrersRow]},
	{bucketImages, readJSON[storage.ImageRow]},
	{bucketLayers, readJSON[storage.LayerRow]},
	{bucketHeat, func(v []byte) error { _, err := decodeHeat(v); return err }},
	{bucketPulls, func(v []byte) error { _, err := decodePulls("", v); return err }},
	{bucketLearn, readJSON[storage.LearnRow]},
	{bucketTaken, readJSON[storage.TakenRow]},
	{bucketJobs, readJSON[storage.JobRow]},
	{bucketTasks, readJSON[storage.TaskRow]},
	{bucketConversions, readJSON[storage.ConversionRow]},
	{bucketConvertedTags, readJSON[storage.ConvertedTagRow]},
	{bucketRetired, readJSON[storage.RetiredRow]},
	{bucketPublished, readJSON[storage.PublishedRow]},
	{bucketPins, readJSON[storage.PinRow]},
	{bucketBlocks, readJSON[storage.BlockRow]},
	{bucketMissing, readJSON[storage.MissingRow]},
	{bucketImported, readJSON[storage.ImportedRow]},
	{bucketUploads, readJSON[storage.UploadRow]},
}

func readJSON[R any](v []byte) error {
	var row R
	return json.Unmarshal(v, &row)
}

func (t tx) Unreadable(fn func(storage.UnreadableRow) error) error {
	for _, r := range readers {
		err := t.scan(r.bucket, nil, nil, func(k, v []byte) error {
			if r.read(v) == nil {
				return nil
			}
			return fn(unreadableRow(r.bucket, bytes.Clone(k)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unreadableRow is what the key says, as far as it is one.
func unreadableRow(bucket, key []byte) storage.UnreadableRow {
	row := storage.UnreadableRow{Table: string(bucket), Key: key}
	switch row.Table {
	case storage.TableTags, string(bucketConvertedTags), string(bucketMissing):
		if i := bytes.LastIndexByte(key, 0); i >= 0 {
			row.Repo, _ = cutRepo(key[:i])
			row.Name = string(key[i+1:])
		}
	case storage.TableContent:
		up, rest, _ := bytes.Cut(key, []byte{0})
		name, d, _ := bytes.Cut(rest, []byte{0})
		row.Repo = oci.Repo{Upstream: string(up), Name: string(name)}
		row.Digest, _, _ = cutDigest(d)
	case storage.TableReferrers, string(bucketPublished):
		subject, rest, err := cutDigest(key)
		if err == nil {
			row.Name = "of " + subject.String()
			row.Digest, rest, _ = cutDigest(rest)
			row.Repo, _ = cutRepo(rest)
		}
	case storage.TablePins, string(bucketUploads), string(bucketContentBytes), string(bucketTasks):
		row.Name = string(bytes.ReplaceAll(key, []byte{0}, []byte{' '}))
	default:
		d, rest, err := cutDigest(key)
		if err != nil {
			row.Name = fmt.Sprintf("%x", key)
			break
		}
		if row.Digest = d; len(rest) == 8 {
			row.SpanSize = int64(binary.BigEndian.Uint64(rest)) //nolint:gosec // as it was put
		} else if len(rest) > 0 {
			row.Repo, _ = cutRepo(rest)
		}
	}
	return row
}

func (t tx) DropUnreadable(row storage.UnreadableRow) error {
	for _, r := range readers {
		if string(r.bucket) != row.Table {
			continue
		}
		v := t.t.Bucket(r.bucket).Get(row.Key)
		if v == nil || r.read(v) == nil {
			return nil // somebody put it anew
		}
		switch row.Table {
		case storage.TableContent:
			return t.forgetContent(row.Repo, row.Digest)
		case string(bucketContentBytes):
			return t.mendContentBytes(string(row.Key))
		}
		return t.forget(r.bucket, row.Key)
	}
	return fmt.Errorf("%w: no rows %q", errKey, row.Table)
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
