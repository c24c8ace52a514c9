package storage

import (
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
)

// addConverted plans for what was made of the manifests that go, and has what was
// made for them of those that stay be readable for a while. What is part of
// something else stays: images with the same layers have the same SOCI index.
func (p *imagePurge) addConverted(tx Tx) error {
	if len(p.converted) == 0 {
		return nil
	}
	used, err := p.madeForOthers(tx)
	for i := range p.converted {
		for _, m := range p.converted[i].Made {
			if used[m.Digest] {
				continue
			}
			going := slices.Contains(p.made, m.Digest)
			if !going && slices.Contains(p.own, m.Of) {
				p.made, going = append(p.made, m.Digest), true
			}
			if going {
				p.unmake = append(p.unmake, m.Digest)
			} else {
				p.retire = append(p.retire, m.Digest)
			}
		}
	}
	return err
}

// madeForOthers gives what SOCI v2 images are made of that do not go.
func (p *imagePurge) madeForOthers(tx Tx) (map[digest.Digest]bool, error) {
	used := map[digest.Digest]bool{}
	return used, tx.AllConversions(func(c ConversionRow) error {
		if !slices.ContainsFunc(p.converted, func(x ConversionRow) bool { return x.Source.Digest == c.Source.Digest && x.Repo == c.Repo }) {
			for _, m := range c.Made {
				used[m.Digest] = true
			}
		}
		return nil
	})
}

// addRetired plans for what was made of the manifests that go and is offered no
// more, or not yet, unless it is part of what was made of another image.
func (p *imagePurge) addRetired(tx Tx) error {
	err := tx.Retired(func(r RetiredRow) error {
		row, err := tx.Blob(r.Digest)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err == nil && slices.Contains(p.own, row.Of) && !slices.Contains(p.made, r.Digest) {
			p.retired = append(p.retired, r.Digest)
		}
		return err
	})
	if err != nil || len(p.retired) == 0 {
		return err
	}
	used, err := p.madeForOthers(tx)
	p.retired = slices.DeleteFunc(p.retired, func(d digest.Digest) bool { return used[d] })
	p.made = append(p.made, p.retired...)
	return err
}
