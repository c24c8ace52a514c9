package bolt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func (t tx) PutTag(row storage.TagRow) error {
	key, err := tagKey(row.Repo, row.Tag)
	if err != nil {
		return err
	}
	old, err := t.Tag(row.Repo, row.Tag)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err != nil || old.Digest != row.Digest {
		if err := errors.Join(t.unfileTag(old), t.fileTag(row)); err != nil {
			return err
		}
	}
	return t.put(bucketTags, key, row)
}

func (t tx) fileTag(row storage.TagRow) error {
	key, err := tagOfKey(row)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketTagsByDigest).Put(key, present)
}

func (t tx) unfileTag(row storage.TagRow) error {
	if row.Digest == "" {
		return nil // there was none
	}
	key, err := tagOfKey(row)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketTagsByDigest).Delete(key)
}

func (t tx) Tag(repo oci.Repo, tag string) (row storage.TagRow, err error) {
	key, err := tagKey(repo, tag)
	if err != nil {
		return row, err
	}
	err = t.get(bucketTags, key, &row, func() string { return fmt.Sprintf("tag %s:%s", repo, tag) })
	if errors.Is(err, storage.ErrUnreadable) {
		return t.tagByDigest(repo, tag, key, err)
	}
	return row, err
}

func (t tx) DeleteTag(repo oci.Repo, tag string) error {
	key, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	old, err := t.Tag(repo, tag)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forget(bucketTags, key)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(t.unfileTag(old), t.t.Bucket(bucketTags).Delete(key))
}

func (t tx) TagsOf(d digest.Digest, fn func(oci.Repo, string) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.scan(bucketTagsByDigest, prefix, prefix, func(key, _ []byte) error {
		k := key[len(prefix):]
		repo, err := cutTagRepo(k)
		if err != nil {
			return t.skip(bucketTagsByDigest, key, err)
		}
		return fn(repo, string(k[bytes.LastIndexByte(k, 0)+1:]))
	})
}

func (t tx) Tags(repo oci.Repo, last string, fn func(storage.TagRow) error) error {
	prefix, err := tagsPrefix(repo)
	if err != nil {
		return err
	}
	from, err := tagKey(repo, last)
	if err != nil {
		return err
	}
	if last != "" {
		from = append(from, 0) // the first key after last's own
	}
	return t.scan(bucketTags, prefix, from, func(k, v []byte) error {
		var row storage.TagRow
		if err := decode(k, v, &row); err != nil {
			if row, err = t.tagByDigest(repo, string(k[len(prefix):]), k, t.unreadable(bucketTags, k, err)); err != nil {
				return nil //nolint:nilerr // it is told
			}
		}
		return fn(row)
	})
}

// TagRepos seeks from the first tag of a repository past its last.
func (t tx) TagRepos(fn func(oci.Repo) error) error {
	c := t.t.Bucket(bucketTags).Cursor()
	for k, _ := c.First(); k != nil; {
		repo, err := cutTagRepo(k)
		if err != nil {
			_ = t.skip(bucketTags, k, err)
			k, _ = c.Next()
			continue
		}
		next, err := tagsPrefix(repo)
		if err != nil {
			return err
		}
		if err := fn(repo); err != nil {
			return err
		}
		next[len(next)-1]++ // the end of the name: the first key after all of its tags
		k, _ = c.Seek(next)
	}
	return nil
}

func (t tx) PutManifest(row storage.ManifestRow) error {
	key, err := digestKey(row.Digest)
	if err != nil {
		return err
	}
	v, err := json.Marshal(row.Lean())
	if err != nil {
		return fmt.Errorf("%w: %w", errRow, err)
	}
	if bytes.Equal(v, t.t.Bucket(bucketManifests).Get(key)) {
		return nil // the same manifest under another tag
	}
	return errors.Join(t.fileManifest(row), t.t.Bucket(bucketManifests).Put(key, v))
}

func (t tx) fileManifest(row storage.ManifestRow) error {
	for _, d := range storage.Named(&row.Manifest) {
		key, err := pairKey(d, row.Digest)
		if err != nil {
			return err
		}
		if err := t.t.Bucket(bucketManifestsByNamed).Put(key, present); err != nil {
			return err
		}
	}
	return nil
}

func (t tx) Manifest(d digest.Digest) (row storage.ManifestRow, err error) {
	key, err := digestKey(d)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketManifests, key, &row, func() string { return "manifest " + d.String() })
}

func (t tx) DeleteManifest(d digest.Digest) error {
	key, err := digestKey(d)
	if err != nil {
		return err
	}
	if err := errors.Join(t.DeletePulls(d), t.DeleteLearn(d), t.t.Bucket(bucketTaken).Delete(key)); err != nil {
		return err
	}
	row, err := t.Manifest(d)
	if errors.Is(err, storage.ErrUnreadable) {
		return t.forget(bucketManifests, key)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, named := range storage.Named(&row.Manifest) {
		by, err := pairKey(named, d)
		if err != nil {
			return err
		}
		if err := t.t.Bucket(bucketManifestsByNamed).Delete(by); err != nil {
			return err
		}
	}
	return t.t.Bucket(bucketManifests).Delete(key)
}

func (t tx) NamedBy(d digest.Digest, fn func(digest.Digest) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.scan(bucketManifestsByNamed, prefix, prefix, func(k, _ []byte) error {
		by, err := wholeDigest(k[len(prefix):])
		if err != nil {
			return t.skip(bucketManifestsByNamed, k, err)
		}
		return fn(by)
	})
}

func (t tx) Manifests(fn func(storage.ManifestRow) error) error {
	return scanRows(t, bucketManifests, nil, fn)
}

func (t tx) ManifestsAfter(last digest.Digest, fn func(storage.ManifestRow) error) error {
	from, err := digestKey(last)
	if err != nil {
		return err
	}
	return scanRowsFrom(t, bucketManifests, nil, append(from, 0), fn)
}
