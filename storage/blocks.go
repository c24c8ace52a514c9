package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
)

// NotBlocked is nil for a digest that may be served, and ErrBlocked for one that
// an operator keeps out.
func NotBlocked(tx BlockTx, d digest.Digest) error {
	blocked, err := tx.Blocked(d)
	if err == nil && blocked {
		err = fmt.Errorf("%s is %w", d, ErrBlocked)
	}
	return err
}

// Block keeps a digest out until Unblock. Tags that lead to it are forgotten, so
// that their upstream is asked where they lead now. It removes nothing: see
// Purge. A pinned digest is refused, ErrPinned.
func (s *Store) Block(ctx context.Context, row BlockRow) error {
	if row.Created.IsZero() {
		row.Created = s.now().UTC().Round(0)
	}
	tags, err := s.tagsOf(ctx, map[digest.Digest]bool{row.Digest: true})
	if err == nil {
		err = s.meta.Update(ctx, func(tx Tx) error {
			if err := NotPinned(tx, row.Digest); err != nil {
				return err
			}
			return errors.Join(deleteTags(tx, tags), tx.PutBlock(row))
		})
	}
	if err != nil {
		return fmt.Errorf("block %s: %w", row.Digest, err)
	}
	return nil
}

// Unblock lets ds in again. What is not blocked is left as it is.
func (s *Store) Unblock(ctx context.Context, ds ...digest.Digest) error {
	err := s.meta.Update(ctx, func(tx Tx) error {
		for _, d := range ds {
			if err := tx.DeleteBlock(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("unblock: %w", err)
	}
	return nil
}

// NotPinned is nil, or an ErrPinned that names the pin.
func NotPinned(tx PinTx, d digest.Digest) error {
	return tx.PinsOf(d, func(row PinRow) error {
		return fmt.Errorf("%s is %w as %s", d, ErrPinned, row.Reference)
	})
}

// NotPinnedIn is nil, or an ErrPinned that names the pin by which repo's d is kept.
func NotPinnedIn(tx PinTx, repo oci.Repo, d digest.Digest) error {
	return tx.PinsOf(d, func(row PinRow) error {
		if rest, ok := strings.CutPrefix(row.Reference, repo.String()); ok && rest != "" && (rest[0] == ':' || rest[0] == '@') {
			return fmt.Errorf("%s is %w as %s", d, ErrPinned, row.Reference)
		}
		return nil
	})
}

// tagsOf finds the tags that lead to one of ds. It goes through all tags.
func (s *Store) tagsOf(ctx context.Context, ds map[digest.Digest]bool) (tags []TagRow, err error) {
	err = s.meta.View(ctx, func(tx Tx) error {
		tags = nil
		return eachTag(tx, func(row TagRow) error {
			if ds[row.Digest] {
				tags = append(tags, row)
			}
			return ctx.Err()
		})
	})
	return tags, err
}

// deleteTags deletes those of tags that lead where they did.
func deleteTags(tx Tx, tags []TagRow) error {
	for _, row := range tags {
		now, err := tx.Tag(row.Repo, row.Tag)
		if errors.Is(err, ErrNotFound) || err == nil && now.Digest != row.Digest {
			continue
		}
		if err == nil {
			err = tx.DeleteTag(row.Repo, row.Tag)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
