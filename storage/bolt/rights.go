package bolt

import (
	"bytes"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
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
			return t.skip(bucketRights, k, err)
		}
		return fn(repo)
	})
}

func (t tx) ForgetRights(upstream string) error {
	var keys [][]byte // a cursor must not be used while its bucket changes
	err := t.scan(bucketRights, nil, nil, func(k, _ []byte) error {
		_, rest, err := cutDigest(k)
		var repo oci.Repo
		if err == nil {
			repo, err = cutRepo(rest)
		}
		if err != nil {
			return t.skip(bucketRights, k, err)
		}
		if repo.Upstream == upstream {
			keys = append(keys, bytes.Clone(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := t.t.Bucket(bucketRights).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// learntKey can't be the key of the version.
func learntKey(upstream string) []byte { return []byte("learnt " + upstream) }

func (t tx) PutLearnt(upstream, as string) error {
	return t.t.Bucket(bucketSchema).Put(learntKey(upstream), []byte(as))
}

func (t tx) Learnt(upstream string) (string, error) {
	v := t.t.Bucket(bucketSchema).Get(learntKey(upstream))
	if v == nil {
		return "", fmt.Errorf("as whom %s was asked: %w", upstream, storage.ErrNotFound)
	}
	return string(v), nil
}
