package storage

import (
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
)

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
	var used []digest.Digest
	err = tx.AllConversions(func(c ConversionRow) error {
		if !slices.ContainsFunc(p.converted, func(x ConversionRow) bool { return x.Source.Digest == c.Source.Digest && x.Repo == c.Repo }) {
			for _, m := range c.Made {
				used = append(used, m.Digest)
			}
		}
		return nil
	})
	p.retired = slices.DeleteFunc(p.retired, func(d digest.Digest) bool { return slices.Contains(used, d) })
	p.made = append(p.made, p.retired...)
	return err
}
