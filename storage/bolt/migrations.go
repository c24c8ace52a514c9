package bolt

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/sociable/sociable/storage"
)

// Names of the buckets.
var (
	bucketSchema        = []byte("schema")
	bucketBlobs         = []byte("blobs")
	bucketPartials      = []byte("partials")
	bucketRights        = []byte("rights")
	bucketTags          = []byte("tags")
	bucketManifests     = []byte("manifests")
	bucketReferrers     = []byte("referrers")
	bucketLayers        = []byte("layers")
	bucketSpans         = []byte("spans")
	bucketImages        = []byte("images")
	bucketImagesByLayer = []byte("images-by-layer")
	bucketJobs          = []byte("jobs")
	bucketJobsByAge     = []byte("jobs-by-age")
	bucketPins          = []byte("pins")
	bucketPinsByDigest  = []byte("pins-by-digest")
	bucketBlocks        = []byte("blocks")
	bucketHeat          = []byte("heat")

	bucketTagsByDigest      = []byte("tags-by-digest")
	bucketManifestsByNamed  = []byte("manifests-by-named")
	bucketUpstreamReferrers = []byte("upstream-referrers")
	bucketEvents            = []byte("events")

	bucketMissing         = []byte("missing")
	bucketContent         = []byte("content")
	bucketContentByDigest = []byte("content-by-digest")
	bucketContentBytes    = []byte("content-bytes")
	bucketUploads         = []byte("uploads")

	bucketConversions   = []byte("conversions")
	bucketConvertedTags = []byte("converted-tags")
	bucketRetired       = []byte("retired")
	bucketJobsByOrder   = []byte("jobs-by-order")
	bucketTasks         = []byte("tasks")
	bucketTasksByOrder  = []byte("tasks-by-order")
	bucketImported      = []byte("imported")
	bucketPublished     = []byte("published")
	bucketPulls         = []byte("pulls")
	bucketSamples       = []byte("samples")
	bucketLearn         = []byte("learn")
	bucketTaken         = []byte("taken")

	keyVersion = []byte("version")
)

// migrations lead from each version to the next: the first makes an empty file
// one of version 1. They are only ever added to, at the end, and there is no
// way back; a release's notes name those that it brings.
var migrations = []func(*bbolt.Tx) error{
	createBuckets(
		bucketBlobs, bucketPartials, bucketRights, bucketTags, bucketManifests, bucketReferrers,
		bucketLayers, bucketSpans, bucketImages, bucketImagesByLayer, bucketJobs, bucketJobsByAge,
	),
	createBuckets(bucketPins, bucketPinsByDigest, bucketBlocks, bucketHeat), // version 2
	func(t *bbolt.Tx) error { // version 3
		if err := createBuckets(bucketTagsByDigest, bucketManifestsByNamed, bucketUpstreamReferrers, bucketEvents)(t); err != nil {
			return err
		}
		return fileByDigest(newTx(t, newTold(nil)))
	},
	createBuckets(bucketMissing), // version 4
	addConversions,               // version 5
	createBuckets(bucketContent, bucketContentByDigest, bucketContentBytes, bucketUploads), // version 6
	createBuckets(bucketImported),             // version 7
	createBuckets(),                           // version 8: content may be released; a program that does not know that would miscount
	createBuckets(bucketPublished),            // version 9
	createBuckets(bucketPulls, bucketSamples), // version 10
	createBuckets(bucketLearn),                // version 11
	createBuckets(bucketTaken),                // version 12
}

// addConversions makes the buckets of SOCI v2 images and of tasks, and has jobs
// sorted by priority, too.
func addConversions(t *bbolt.Tx) error {
	err := createBuckets(
		bucketConversions, bucketConvertedTags, bucketRetired, bucketJobsByOrder, bucketTasks, bucketTasksByOrder,
	)(t)
	if err != nil {
		return err
	}
	err = scanRows(newTx(t, newTold(nil)), bucketJobs, nil, func(row storage.JobRow) error {
		key, err := layerKey(row.Layer.Digest, row.SpanSize)
		if err != nil {
			return err
		}
		return t.Bucket(bucketJobsByOrder).Put(jobOrder(row, key), present)
	})
	if err != nil {
		return err
	}
	return t.DeleteBucket(bucketJobsByAge)
}

// fileByDigest fills the buckets that find tags and manifests by what they name.
func fileByDigest(t tx) error {
	err := scanRows(t, bucketTags, nil, t.fileTag)
	if err != nil {
		return err
	}
	return scanRows(t, bucketManifests, nil, t.fileManifest)
}

func createBuckets(names ...[]byte) func(*bbolt.Tx) error {
	return func(t *bbolt.Tx) error {
		for _, name := range names {
			if _, err := t.CreateBucket(name); err != nil {
				return fmt.Errorf("create bucket %s: %w", name, err)
			}
		}
		return nil
	}
}

// migrate brings the file to the newest version, all in one transaction.
func migrate(db *bbolt.DB) error {
	newest := uint32(len(migrations))
	current := false
	err := db.View(func(t *bbolt.Tx) error {
		version, err := schemaVersion(t)
		if err == nil && version > newest {
			err = fmt.Errorf("%w: it is %d, this program knows up to %d", storage.ErrSchema, version, newest)
		}
		current = version == newest
		return err
	})
	if err != nil || current {
		return err
	}
	return db.Update(func(t *bbolt.Tx) error {
		version, err := schemaVersion(t)
		if err != nil {
			return err
		}
		for ; version < newest; version++ {
			if err := migrations[version](t); err != nil {
				return fmt.Errorf("migrate schema to version %d: %w", version+1, err)
			}
		}
		b, err := t.CreateBucketIfNotExists(bucketSchema)
		if err != nil {
			return err
		}
		return b.Put(keyVersion, binary.BigEndian.AppendUint32(nil, version))
	})
}

// schemaVersion is 0 for an empty file.
func schemaVersion(t *bbolt.Tx) (uint32, error) {
	b := t.Bucket(bucketSchema)
	if b == nil {
		if name, _ := t.Cursor().First(); name != nil {
			return 0, fmt.Errorf("%w: it has none, but a bucket %q", storage.ErrSchema, name)
		}
		return 0, nil
	}
	v := b.Get(keyVersion)
	if len(v) != 4 {
		return 0, fmt.Errorf("%w: %q", storage.ErrSchema, v)
	}
	return binary.BigEndian.Uint32(v), nil
}
