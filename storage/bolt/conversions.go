package bolt

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// conversionKey is a source and a repository, as rightKey is.
func conversionKey(source digest.Digest, repo oci.Repo) ([]byte, error) {
	return rightKey(repo, source)
}

func (t tx) PutConversion(row storage.ConversionRow) error {
	key, err := conversionKey(row.Source.Digest, row.Repo)
	if err != nil {
		return err
	}
	return t.put(bucketConversions, key, row)
}

func (t tx) Conversion(source digest.Digest, repo oci.Repo) (row storage.ConversionRow, err error) {
	key, err := conversionKey(source, repo)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketConversions, key, &row, func() string { return fmt.Sprintf("conversion of %s in %s", source, repo) })
}

func (t tx) DeleteConversion(source digest.Digest, repo oci.Repo) error {
	key, err := conversionKey(source, repo)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketConversions).Delete(key)
}

func (t tx) Conversions(source digest.Digest, fn func(storage.ConversionRow) error) error {
	prefix, err := digestKey(source)
	if err != nil {
		return err
	}
	return scanRows(t, bucketConversions, prefix, fn)
}

func (t tx) AllConversions(fn func(storage.ConversionRow) error) error {
	return scanRows(t, bucketConversions, nil, fn)
}

func (t tx) PutConvertedTag(row storage.ConvertedTagRow) error {
	key, err := tagKey(row.Repo, row.Tag)
	if err != nil {
		return err
	}
	return t.put(bucketConvertedTags, key, row)
}

func (t tx) ConvertedTag(repo oci.Repo, tag string) (row storage.ConvertedTagRow, err error) {
	key, err := tagKey(repo, tag)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketConvertedTags, key, &row, func() string { return fmt.Sprintf("converted tag %s:%s", repo, tag) })
}

func (t tx) DeleteConvertedTag(repo oci.Repo, tag string) error {
	key, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketConvertedTags).Delete(key)
}

func (t tx) ConvertedTags(fn func(storage.ConvertedTagRow) error) error {
	return scanRows(t, bucketConvertedTags, nil, fn)
}

func (t tx) PutRetired(row storage.RetiredRow) error {
	key, err := digestKey(row.Digest)
	if err != nil {
		return err
	}
	return t.put(bucketRetired, key, row)
}

func (t tx) DeleteRetired(d digest.Digest) error {
	key, err := digestKey(d)
	if err != nil {
		return err
	}
	return t.t.Bucket(bucketRetired).Delete(key)
}

func (t tx) Retired(fn func(storage.RetiredRow) error) error {
	return scanRows(t, bucketRetired, nil, fn)
}
