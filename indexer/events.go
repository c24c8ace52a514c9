package indexer

import (
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// tellIndexed files that the image's index is listed: the target is the image,
// the index its one reference. Of repositories that have it, the first is named.
func (x *Indexer) tellIndexed(tx storage.Tx, p *publication) error {
	if p.body == nil {
		return nil
	}
	return x.opt.Events.File(tx, oci.Event{
		Kind: oci.EventIndexed, Repo: firstRepo(p.img.Repos), Target: p.img.Manifest,
		References: []v1.Descriptor{{
			MediaType: v1.MediaTypeImageManifest, ArtifactType: oci.MediaTypeSOCIIndexV1, Digest: p.digest, Size: int64(len(p.body)),
		}},
	})
}

// tellSkipped files that a layer will not have a zTOC.
func (x *Indexer) tellSkipped(tx storage.Tx, row *storage.LayerRow) error {
	repos, err := reposOf(tx, row.Digest)
	if err != nil {
		return err
	}
	return x.opt.Events.File(tx, oci.Event{
		Kind: oci.EventSkipped, Repo: firstRepo(repos), Reason: row.Reason,
		Target: v1.Descriptor{MediaType: "application/octet-stream", Digest: row.Digest, Size: row.Size},
	})
}

// tellUnfit files that layers of an image are of a kind that has no zTOC.
func (x *Indexer) tellUnfit(tx storage.Tx, n *notes) error {
	for i := range n.unfit {
		l := &n.unfit[i]
		err := x.opt.Events.File(tx, oci.Event{Kind: oci.EventSkipped, Repo: firstRepo(n.img.Repos), Reason: l.Skip, Target: l.Descriptor})
		if err != nil {
			return err
		}
	}
	return nil
}

func firstRepo(repos []oci.Repo) oci.Repo {
	if len(repos) == 0 {
		return oci.Repo{}
	}
	return repos[0]
}

// noEvents is what an indexer without receivers tells.
type noEvents struct{}

func (noEvents) File(storage.EventTx, oci.Event) error { return nil }
