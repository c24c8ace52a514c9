package bolt

import (
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

func (t tx) PutRight(repo oci.Repo, d digest.Digest) error {
	key, err := rightKey(repo, d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketRights).Put(key, present)
}

func (t tx) HasRight(repo oci.Repo, d digest.Digest) (bool, error) {
	key, err := rightKey(repo, d)
	if err != nil {
		return false, err
	}
	return t.t.Bucket(bucketRights).Get(key) != nil, nil
}

func (t tx) DeleteRight(repo oci.Repo, d digest.Digest) error {
	key, err := rightKey(repo, d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketRights).Delete(key)
}

func (t tx) RightRepos(d digest.Digest, fn func(oci.Repo) error) error {
	prefix, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.scan(bucketRights, prefix, prefix, func(k, _ []byte) error {
		repo, err := cutRepo(k[len(prefix):])
		if err != nil {
			return err
		}
		return fn(repo)
	})
}
