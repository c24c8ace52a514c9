package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// contentPrefix begins the keys of all that repo has.
func contentPrefix(repo oci.Repo) ([]byte, error) { return tagsPrefix(repo) }

func contentKey(repo oci.Repo, d digest.Digest) ([]byte, error) {
	key, err := contentPrefix(repo)
	if err != nil {
		return nil, err
	}
	return appendDigest(key, d)
}

// upstreamPrefix begins the keys of all repositories of upstream.
func upstreamPrefix(key []byte, upstream string) ([]byte, error) {
	key, err := appendName(key, upstream)
	if err != nil {
		return nil, err
	}
	return append(key, 0), nil
}

// uncounted is the value of content-by-digest for what does not count.
var uncounted = []byte{1}

func (t tx) PutContent(row storage.ContentRow) error {
	key, err := contentKey(row.Repo, row.Digest)
	if err != nil {
		return err
	}
	if row.Size < 0 {
		return fmt.Errorf("%w: size %d", errRow, row.Size)
	}
	old, err := t.Content(row.Repo, row.Digest)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		err = t.fileContent(row)
	case err == nil && old.Size != row.Size:
		err = fmt.Errorf("%w: %s has %d bytes in %s, not %d", errRow, row.Digest, old.Size, row.Repo, row.Size)
	case err == nil:
		row.Manifest = row.Manifest || old.Manifest
		if old.Counts() != row.Counts() {
			err = t.fileContent(row)
		}
	}
	if err != nil {
		return err
	}
	// The right, too, of content that lost it: to push again mends that.
	return errors.Join(t.PutRight(row.Repo, row.Digest), t.put(bucketContent, key, row))
}

// fileContent files and counts content that is new to its repository, or counts
// from now on, or no longer.
func (t tx) fileContent(row storage.ContentRow) error {
	key, err := rightKey(row.Repo, row.Digest)
	if err != nil {
		return err
	}
	value := present
	if !row.Counts() {
		value = uncounted
	}
	return t.recount(row, func() error { return t.t.Bucket(bucketContentByDigest).Put(key, value) })
}

// recount counts what change does to row's digest for its upstream.
func (t tx) recount(row storage.ContentRow, change func() error) error {
	before, err := t.counts(row.Repo.Upstream, row.Digest)
	if err == nil {
		err = t.mendContentBytes(row.Repo.Upstream) // before the change, of which a new count would know
	}
	if err == nil {
		err = change()
	}
	if err != nil {
		return err
	}
	after, err := t.counts(row.Repo.Upstream, row.Digest)
	switch {
	case err != nil || before == after:
		return err
	case after:
		return t.countContent(row.Repo.Upstream, row.Size)
	}
	return t.countContent(row.Repo.Upstream, -row.Size)
}

// counts reports whether a repository of upstream has d in a row that counts.
func (t tx) counts(upstream string, d digest.Digest) (bool, error) {
	key, err := digestKey(d)
	if err == nil {
		key, err = upstreamPrefix(key, upstream)
	}
	if err != nil {
		return false, err
	}
	c := t.t.Bucket(bucketContentByDigest).Cursor()
	for k, v := c.Seek(key); bytes.HasPrefix(k, key); k, v = c.Next() {
		if len(v) == 0 {
			return true, nil
		}
	}
	return false, nil
}

func (t tx) countContent(upstream string, n int64) error {
	sum, err := t.ContentBytes(upstream)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketContentBytes).Put([]byte(upstream), binary.BigEndian.AppendUint64(nil, uint64(sum+n)))
}

func (t tx) ContentBytes(upstream string) (int64, error) {
	v := t.t.Bucket(bucketContentBytes).Get([]byte(upstream))
	switch len(v) {
	case 0:
		return 0, nil
	case 8:
		return int64(binary.BigEndian.Uint64(v)), nil
	}
	_ = t.unreadable(bucketContentBytes, []byte(upstream), errLength) // that it is told is enough
	return t.sumContent(upstream)
}

func (t tx) Content(repo oci.Repo, d digest.Digest) (row storage.ContentRow, err error) {
	key, err := contentKey(repo, d)
	if err != nil {
		return row, err
	}
	err = t.get(bucketContent, key, &row, func() string { return fmt.Sprintf("%s in %s", d, repo) })
	if errors.Is(err, storage.ErrUnreadable) {
		return t.contentByDigest(repo, d, err)
	}
	return row, err
}

func (t tx) DeleteContent(repo oci.Repo, d digest.Digest) error {
	row, err := t.Content(repo, d)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forgetContent(repo, d)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := contentKey(repo, d)
	if err != nil {
		return err
	}
	byDigest, err := rightKey(repo, d)
	if err != nil {
		return err
	}
	return t.recount(row, func() error {
		return errors.Join(t.t.Bucket(bucketContent).Delete(key), t.t.Bucket(bucketContentByDigest).Delete(byDigest), t.DeleteRight(repo, d))
	})
}

func (t tx) Contents(repo oci.Repo, fn func(storage.ContentRow) error) error {
	prefix, err := contentPrefix(repo)
	if err != nil {
		return err
	}
	return scanRows(t, bucketContent, prefix, fn)
}

func (t tx) ContentsAfter(repo oci.Repo, last digest.Digest, fn func(storage.ContentRow) error) error {
	if last == "" {
		return t.Contents(repo, fn)
	}
	prefix, err := contentPrefix(repo)
	if err != nil {
		return err
	}
	from, err := contentKey(repo, last)
	if err != nil {
		return err
	}
	return scanRowsFrom(t, bucketContent, prefix, append(from, 0), fn)
}

func (t tx) ContentOf(d digest.Digest, fn func(oci.Repo) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.scan(bucketContentByDigest, prefix, prefix, func(k, _ []byte) error {
		repo, err := cutRepo(k[len(prefix):])
		if err != nil {
			return t.skip(bucketContentByDigest, k, err)
		}
		return fn(repo)
	})
}

func (t tx) AllContents(fn func(storage.ContentRow) error) error {
	return scanRows(t, bucketContent, nil, fn)
}

// ContentRepos seeks from the first digest of a repository past its last.
func (t tx) ContentRepos(upstream, last string, fn func(oci.Repo) error) error {
	prefix, err := upstreamPrefix(make([]byte, 0, keyRoom), upstream)
	if err != nil {
		return err
	}
	from := bytes.Clone(prefix)
	if last != "" {
		if from, err = appendName(from, last); err != nil {
			return err
		}
		from = append(from, 1) // behind all that begins with last and the end of a name
	}
	c := t.t.Bucket(bucketContent).Cursor()
	for k, _ := c.Seek(from); bytes.HasPrefix(k, prefix); k, _ = c.Seek(from) {
		name, _, ok := bytes.Cut(k[len(prefix):], []byte{0})
		if !ok {
			from = append(bytes.Clone(k), 0) // the next key
			_ = t.skip(bucketContent, k, errKey)
			continue
		}
		from = append(append(from[:len(prefix)], name...), 1)
		if err := fn(oci.Repo{Upstream: upstream, Name: string(name)}); err != nil {
			return err
		}
	}
	return nil
}

func uploadKey(id string) ([]byte, error) {
	if id == "" {
		return nil, fmt.Errorf("%w: upload without an id", errKey)
	}
	return appendName(make([]byte, 0, keyRoom), id)
}

func (t tx) PutUpload(row storage.UploadRow) error {
	key, err := uploadKey(row.ID)
	if err != nil {
		return err
	}
	return t.put(bucketUploads, key, row)
}

func (t tx) Upload(id string) (row storage.UploadRow, err error) {
	key, err := uploadKey(id)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketUploads, key, &row, func() string { return "upload " + id })
}

func (t tx) DeleteUpload(id string) error {
	key, err := uploadKey(id)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketUploads).Delete(key)
}

func (t tx) Uploads(fn func(storage.UploadRow) error) error {
	return scanRows(t, bucketUploads, nil, fn)
}
