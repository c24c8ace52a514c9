package storage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// ErrUnreadable is a row that is there and can't be read. It is an ErrNotFound,
// too: what it said can be fetched, made or pushed again, and is to be.
var ErrUnreadable = fmt.Errorf("a row can't be read, and counts as %w", ErrNotFound)

// UnreadableTx holds rows whose values can't be read, for a fault of the medium, or
// are of another row, and what is filed of rows that are not there. Getters give
// ErrUnreadable for them, iterators leave them out, Put replaces and Delete deletes
// them. What another row says of them, too, holds: a tag means the digest under which
// it is filed, and was never confirmed; content of a hosted repository is there if its
// blob is; what is pinned or blocked stays so.
type UnreadableTx interface {
	// Unread is how many of them this transaction came across until now: what it
	// found to be absent may not be.
	Unread() int
	// Unreadable looks for all of them, and calls fn for each.
	Unreadable(fn func(UnreadableRow) error) error
	// DropUnreadable deletes such a row and what it is filed under. One that can be
	// read by now stays. A tag, content, a referrer, a pin or a block that was under
	// another key is put under its own, if nothing is there.
	DropUnreadable(UnreadableRow) error
}

// Tables of rows that are put right in ways of their own.
const (
	TableBlobs     = "blobs"
	TablePartials  = "partials"
	TableManifests = "manifests"
	TableTags      = "tags"
	TableContent   = "content"
	TableReferrers = "referrers"
	TableLayers    = "layers"
	TablePins      = "pins"
	TableBlocks    = "blocks"
)

// UnreadableRow is what the key of such a row says, as far as that can be read.
type UnreadableRow struct {
	Table    string
	Key      []byte // the implementation's own
	Digest   digest.Digest
	SpanSize int64
	Repo     oci.Repo
	Name     string // a tag, or what else names it
	// BadKey says that the key is none of the table's: nobody comes across the row by
	// what it is of.
	BadKey bool
}

// String is the row in words, as in "tags docker.io/library/redis 7".
func (r UnreadableRow) String() string {
	words := []string{r.Table}
	if r.Repo != (oci.Repo{}) {
		words = append(words, r.Repo.String())
	}
	if r.Digest != "" {
		words = append(words, r.Digest.String())
	}
	if r.SpanSize != 0 {
		words = append(words, fmt.Sprint("span size ", r.SpanSize))
	}
	if r.Name != "" {
		words = append(words, r.Name)
	}
	return strings.Join(words, " ")
}

// ErrUnsure ends what may only be done where all rows can be read, as collecting
// garbage is.
var ErrUnsure = errors.New("rows can't be read, and what they need is not known: sociable fsck --repair puts them right")

// sure has fn fail where it came across rows that can't be read: what it found to
// be needless may be needed by one of them.
func sure(fn func(Tx) error) func(Tx) error {
	return func(tx Tx) error {
		err := fn(tx)
		if tx.Unread() > 0 {
			return ErrUnsure
		}
		return err
	}
}
