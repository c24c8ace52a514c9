package bolt

import (
	"bytes"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func (t tx) PutReferrer(row storage.ReferrerRow) error {
	key, err := referrerKey(row.Repo, row.Subject, row.Descriptor.Digest)
	if err != nil {
		return err
	}
	return t.put(bucketReferrers, key, row)
}

func (t tx) Referrer(repo oci.Repo, subject, d digest.Digest) (row storage.ReferrerRow, err error) {
	key, err := referrerKey(repo, subject, d)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketReferrers, key, &row, func() string { return fmt.Sprintf("referrer %s of %s", d, subject) })
}

func (t tx) DeleteReferrerIn(repo oci.Repo, subject, d digest.Digest) error {
	key, err := referrerKey(repo, subject, d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketReferrers).Delete(key)
}

func (t tx) DeleteReferrer(subject, d digest.Digest) error {
	prefix, err := pairKey(subject, d)
	if err != nil {
		return err
	}
	var keys [][]byte // a cursor does not outlive a change
	err = t.scan(bucketReferrers, prefix, prefix, func(k, _ []byte) error {
		keys = append(keys, bytes.Clone(k))
		return nil
	})
	for _, k := range keys {
		if err == nil {
			err = t.t.Bucket(bucketReferrers).Delete(k)
		}
	}
	return err
}

func (t tx) Referrers(subject digest.Digest, fn func(storage.ReferrerRow) error) error {
	prefix, err := digestKey(subject)
	if err != nil {
		return err
	}
	return scanRows(t, bucketReferrers, prefix, fn)
}

func (t tx) ReferrersAfter(subject, last digest.Digest, fn func(storage.ReferrerRow) error) error {
	prefix, err := digestKey(subject)
	if err != nil {
		return err
	}
	from, err := pairKey(subject, last)
	if err != nil {
		return err
	}
	return scanRowsFrom(t, bucketReferrers, prefix, pastPrefix(from), fn)
}

func (t tx) AllReferrers(fn func(storage.ReferrerRow) error) error {
	return scanRows(t, bucketReferrers, nil, fn)
}

func (t tx) PutUpstreamReferrers(row storage.UpstreamReferrersRow) error {
	key, err := rightKey(row.Repo, row.Subject)
	if err != nil {
		return err
	}
	return t.put(bucketUpstreamReferrers, key, row)
}

func (t tx) UpstreamReferrers(repo oci.Repo, subject digest.Digest) (row storage.UpstreamReferrersRow, err error) {
	key, err := rightKey(repo, subject)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketUpstreamReferrers, key, &row, func() string {
		return fmt.Sprintf("referrers of %s in %s", subject, repo)
	})
}

func (t tx) DeleteUpstreamReferrers(repo oci.Repo, subject digest.Digest) error {
	key, err := rightKey(repo, subject)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketUpstreamReferrers).Delete(key)
}

func (t tx) AllUpstreamReferrers(fn func(storage.UpstreamReferrersRow) error) error {
	return scanRows(t, bucketUpstreamReferrers, nil, fn)
}
