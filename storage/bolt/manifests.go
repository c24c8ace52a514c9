package bolt

import (
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
	return t.put(bucketTags, key, row)
}

func (t tx) Tag(repo oci.Repo, tag string) (row storage.TagRow, err error) {
	key, err := tagKey(repo, tag)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketTags, key, &row, func() string { return fmt.Sprintf("tag %s:%s", repo, tag) })
}

func (t tx) DeleteTag(repo oci.Repo, tag string) error {
	key, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketTags).Delete(key)
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
		if err := unmarshal(bucketTags, k, v, &row); err != nil {
			return err
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
			return err
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
	return t.put(bucketManifests, key, row)
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
	return t.t.Bucket(bucketManifests).Delete(key)
}

func (t tx) Manifests(fn func(storage.ManifestRow) error) error {
	return scanRows(t, bucketManifests, nil, fn)
}

func (t tx) PutReferrer(row storage.ReferrerRow) error {
	key, err := pairKey(row.Subject, row.Descriptor.Digest)
	if err != nil {
		return err
	}
	return t.put(bucketReferrers, key, row)
}

func (t tx) DeleteReferrer(subject, d digest.Digest) error {
	key, err := pairKey(subject, d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketReferrers).Delete(key)
}

func (t tx) Referrers(subject digest.Digest, fn func(storage.ReferrerRow) error) error {
	prefix, err := digestKey(subject)
	if err != nil {
		return err
	}
	return scanRows(t, bucketReferrers, prefix, fn)
}

func (t tx) AllReferrers(fn func(storage.ReferrerRow) error) error {
	return scanRows(t, bucketReferrers, nil, fn)
}
