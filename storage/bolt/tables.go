package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sociable/sociable/storage"
)

// table is a bucket, what its keys are made of, and what is wrong with a row of it.
type table struct {
	bucket []byte
	key    []part
	wrong  func(t tx, k, v []byte) error // nil: what its key says is all there is
}

// tables are in the order in which they are looked at: what is filed behind its row.
// It is a function since to look at a row is to tell of it, which needs its table.
func tables() []table {
	return []table{
		{bucketBlobs, digestOnly, func(_ tx, _, v []byte) error { _, err := decodeBlobRow("", v); return err }},
		{bucketPartials, digestOnly, wrongJSON[storage.PartialRow]},
		{bucketManifests, digestOnly, wrongJSON[storage.ManifestRow]},
		{bucketContent, []part{upstreamPart, namePart, digestPart}, wrongJSON[storage.ContentRow]},
		{bucketContentByDigest, digestAndRepo, tx.wrongCount},
		{bucketContentBytes, []part{lastPart}, tx.wrongSum},
		{bucketTags, repoAndLast, wrongJSON[storage.TagRow]},
		{bucketReferrers, []part{ofPart, digestPart, anyRepoPart}, wrongJSON[storage.ReferrerRow]},
		{bucketUpstreamReferrers, digestAndRepo, wrongJSON[storage.UpstreamReferrersRow]},
		{bucketImages, digestOnly, wrongJSON[storage.ImageRow]},
		{bucketLayers, digestAndSize, wrongJSON[storage.LayerRow]},
		{bucketSpans, digestAndSize, nil}, // compared with their zTOCs
		{bucketHeat, digestAndSize, func(_ tx, _, v []byte) error { _, err := decodeHeat(v); return err }},
		{bucketPulls, digestOnly, func(_ tx, _, v []byte) error { _, err := decodePulls("", v); return err }},
		{bucketLearn, digestOnly, wrongJSON[storage.LearnRow]},
		{bucketTaken, digestOnly, wrongJSON[storage.TakenRow]},
		{bucketJobs, digestAndSize, wrongJSON[storage.JobRow]},
		{bucketTasks, []part{wordPart, upstreamPart, namePart, lastPart}, wrongJSON[storage.TaskRow]},
		{bucketConversions, digestAndRepo, wrongJSON[storage.ConversionRow]},
		{bucketConvertedTags, repoAndLast, wrongJSON[storage.ConvertedTagRow]},
		{bucketRetired, digestOnly, wrongJSON[storage.RetiredRow]},
		{bucketPublished, []part{ofPart, digestPart, anyRepoPart}, wrongJSON[storage.PublishedRow]},
		{bucketPins, []part{lastPart}, wrongJSON[storage.PinRow]},
		{bucketBlocks, digestOnly, wrongJSON[storage.BlockRow]},
		{bucketMissing, repoAndLast, wrongJSON[storage.MissingRow]},
		{bucketImported, digestOnly, wrongJSON[storage.ImportedRow]},
		{bucketUploads, []part{lastPart}, wrongJSON[storage.UploadRow]},
		{bucketRights, digestAndRepo, nil},
		{bucketEvents, []part{wordPart, numberPart}, nil},
		{bucketTagsByDigest, []part{ofPart, upstreamPart, namePart, lastPart}, filed(bucketTagsByDigest)},
		{bucketManifestsByNamed, []part{ofPart, digestPart}, filed(bucketManifestsByNamed)},
		{bucketImagesByLayer, []part{ofPart, digestPart}, filed(bucketImagesByLayer)},
		{bucketPinsByDigest, []part{ofPart, lastPart}, filed(bucketPinsByDigest)},
		{bucketJobsByOrder, []part{orderPart, digestPart, sizePart}, filed(bucketJobsByOrder)},
		{bucketTasksByOrder, []part{orderPart, wordPart, upstreamPart, namePart, lastPart}, filed(bucketTasksByOrder)},
	}
}

var (
	digestOnly    = []part{digestPart}
	digestAndSize = []part{digestPart, sizePart}
	digestAndRepo = []part{digestPart, upstreamPart, lastNamePart}
	repoAndLast   = []part{upstreamPart, namePart, lastPart}
)

func tableOf(bucket []byte) *table {
	all := tables()
	for i := range all {
		if bytes.Equal(all[i].bucket, bucket) {
			return &all[i]
		}
	}
	return nil
}

// row is what key says; BadKey where it is none of the table's.
func (b *table) row(key []byte) storage.UnreadableRow {
	row, rest := storage.UnreadableRow{Table: string(b.bucket), Key: key}, key
	for _, cut := range b.key {
		var ok bool
		if rest, ok = cut(&row, rest); !ok {
			return storage.UnreadableRow{Table: row.Table, Key: key, BadKey: true, Name: fmt.Sprintf("%x", key)}
		}
	}
	if len(rest) > 0 {
		return storage.UnreadableRow{Table: row.Table, Key: key, BadKey: true, Name: fmt.Sprintf("%x", key)}
	}
	return row
}

// fault is why the row can't be read; nil where it can.
func (b *table) fault(t tx, k, v []byte) error {
	if b.row(k).BadKey {
		return errKey
	}
	if b.wrong == nil {
		return nil
	}
	return b.wrong(t, k, v)
}

func wrongJSON[R any](_ tx, k, v []byte) error {
	var row R
	return decode(k, v, &row)
}

var errFiled = errors.New("what it is about is not there, or says otherwise")

// filed has what is filed in bucket have its row.
func filed(bucket []byte) func(t tx, k, v []byte) error {
	return func(t tx, k, _ []byte) error {
		for _, f := range filings {
			if bytes.Equal(f.in, bucket) && t.t.Bucket(f.of).Get(f.own(k)) == nil {
				return errFiled
			}
		}
		return nil
	}
}

// wrongCount compares what is filed of content with its row, where that can be read.
func (t tx) wrongCount(k, v []byte) error {
	row, err := t.contentOfFiled(k)
	if errors.Is(err, storage.ErrUnreadable) {
		return nil
	}
	if err != nil || row.Counts() != (len(v) == 0) {
		return errFiled
	}
	return nil
}

// contentOfFiled is the row of content that is filed under k.
func (t tx) contentOfFiled(k []byte) (row storage.ContentRow, err error) {
	d, rest, err := cutDigest(k)
	if err != nil {
		return row, err
	}
	repo, err := cutRepo(rest)
	if err != nil {
		return row, err
	}
	key, err := contentKey(repo, d)
	if err != nil {
		return row, err
	}
	return row, t.get(bucketContent, key, &row, func() string { return fmt.Sprintf("%s in %s", d, repo) })
}

// wrongSum counts content anew, unless some of it can't be read.
func (t tx) wrongSum(k, v []byte) error {
	if len(v) != 8 {
		return errLength
	}
	apart := newTx(t.t, t.told)
	sum, err := apart.sumContent(string(k))
	if err == nil && apart.unread == 0 && uint64(sum) != binary.BigEndian.Uint64(v) { //nolint:gosec // of sizes
		err = errFiled
	}
	return err
}

// part cuts one part off the beginning of a key, and notes in row what it says.
type part func(row *storage.UnreadableRow, key []byte) (rest []byte, ok bool)

func digestPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	d, rest, err := cutDigest(key)
	row.Digest = d
	return rest, err == nil
}

// ofPart is the digest of something else, under which the row is found.
func ofPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	d, rest, err := cutDigest(key)
	row.Name = "of " + d.String()
	return rest, err == nil
}

func sizePart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	if len(key) < 8 {
		return nil, false
	}
	row.SpanSize = int64(binary.BigEndian.Uint64(key)) //nolint:gosec // as it was put
	return key[8:], row.SpanSize >= 0
}

func upstreamPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	name, rest, ok := bytes.Cut(key, []byte{0})
	row.Repo.Upstream = string(name)
	return rest, ok
}

func namePart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	name, rest, ok := bytes.Cut(key, []byte{0})
	row.Repo.Name = string(name)
	return rest, ok
}

func lastNamePart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	row.Repo.Name = string(key)
	return nil, bytes.IndexByte(key, 0) < 0
}

// anyRepoPart is a repository, or nothing.
func anyRepoPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	if len(key) == 0 {
		return nil, true
	}
	repo, err := cutRepo(key)
	row.Repo = repo
	return nil, err == nil
}

func wordPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	word, rest, ok := bytes.Cut(key, []byte{0})
	row.Name = string(word)
	return rest, ok && len(word) > 0
}

func lastPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	if row.Name != "" {
		row.Name += " "
	}
	row.Name += string(key)
	return nil, bytes.IndexByte(key, 0) < 0
}

func orderPart(_ *storage.UnreadableRow, key []byte) ([]byte, bool) {
	if len(key) < orderLen {
		return nil, false
	}
	return key[orderLen:], true
}

func numberPart(row *storage.UnreadableRow, key []byte) ([]byte, bool) {
	if len(key) != numberLen {
		return nil, false
	}
	row.Name += fmt.Sprint(" ", binary.BigEndian.Uint64(key))
	return nil, true
}
