package indexer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/storage"
)

// fromElsewhere gives a listed SOCI v1 index of the image that was not made here;
// "" where there is none. What counts as made here has a row: who put it there, this
// sociable or another one that makes the same bytes, is no matter.
func (p *pushPlan) fromElsewhere(listed []v1.Descriptor) digest.Digest {
	for _, d := range listed {
		r := p.row(d.Digest)
		if d.Digest != p.v1.Index && (r == nil || r.V2) {
			return d.Digest
		}
	}
	return ""
}

// takeOver has what the upstream lists, and was made here before, replaced like what
// was brought there from here: another sociable may have put it there. What was only
// found there, and is not any more, is to be looked for again when its turn comes.
func (x *Indexer) takeOver(ctx context.Context, p *pushPlan, listed []v1.Descriptor) error {
	for i := range p.rows {
		r := &p.rows[i]
		there := isListed(listed, r.Index)
		if r.V2 || r.Index == p.v1.Index || there && r.Made && !r.Unlisted || !there && (r.Made || r.Unlisted) {
			continue
		}
		*r = storage.PublishedRow{Repo: r.Repo, Subject: r.Subject, Index: r.Index, Made: there, Begun: there, Unlisted: !there}
		if err := x.fileBegun(ctx, p, *r); err != nil {
			return err
		}
		if there {
			x.log.InfoContext(ctx, "an index that was not put there from here is replaced: it is the same that was made here", "repo", p.repo.String(), "digest", p.subject, "index", r.Index)
		}
	}
	return nil
}

func isListed(list []v1.Descriptor, d digest.Digest) bool {
	return slices.ContainsFunc(list, func(x v1.Descriptor) bool { return x.Digest == d })
}

// leaveTo files that the upstream has theirs, which was not made here: ours is not
// put beside it. Where theirs is made as ours are, by another sociable or by this one
// before its store was lost, somebody has to say whose it is: that is an error.
func (x *Indexer) leaveTo(ctx context.Context, p *pushPlan, theirs digest.Digest) error {
	row := storage.PublishedRow{Repo: p.repo, Subject: p.subject, Index: p.v1.Index, Instead: theirs}
	body, err := x.opt.Publish.Read(ctx, p.repo, theirs)
	if err = ignoreNotFound(err); err != nil {
		return err
	}
	row.Alike = isAlike(body, p.v1)
	var kept error
	if was := p.row(row.Index); was != nil && was.Made && !was.Unlisted {
		if kept = x.unlist(ctx, p, []storage.PublishedRow{*was}); kept != nil && !errors.Is(kept, ErrRefused) {
			return kept
		}
	}
	if row.Alike {
		if err := x.fileBegun(ctx, p, row); err != nil {
			return err
		}
		return errors.Join(kept, permanent{fmt.Errorf("the upstream has %s, made by sociable or soci, but not here: delete it there and have this tried again, or push v2 alone", theirs)})
	}
	x.log.InfoContext(ctx, "index not pushed: the upstream has another", "repo", p.repo.String(), "digest", p.subject, "index", theirs)
	return errors.Join(kept, x.filePushed(ctx, row, pushLeft))
}

// isAlike reports whether body is a SOCI v1 index of img as EncodeIndexV1 makes them,
// of whichever of its layers, in spans of whatever size. That tells who made it as
// little as which zTOCs it names: the official tool's are the same bytes.
func isAlike(body []byte, img *storage.ImageRow) bool {
	var m v1.Manifest
	if err := json.Unmarshal(body, &m); err != nil || m.Subject == nil || m.Subject.Digest != img.Manifest.Digest {
		return false
	}
	layers := make([]IndexLayer, 0, len(m.Layers))
	for _, d := range m.Layers {
		l := IndexLayer{
			Layer: v1.Descriptor{Digest: digest.Digest(d.Annotations[annotationLayerDigest]), MediaType: d.Annotations[annotationLayerMediaType]},
			ZTOC:  d.Digest, ZTOCSize: d.Size, NoXattrs: d.Annotations[annotationDisableXattrs] != "",
		}
		var err error
		if l.SpanSize, err = strconv.ParseInt(d.Annotations[annotationSpanSize], 10, 64); err != nil || !isListed(layersOf(img), l.Layer.Digest) {
			return false
		}
		layers = append(layers, l)
	}
	again, err := EncodeIndexV1(*m.Subject, layers)
	return err == nil && bytes.Equal(again, body)
}
