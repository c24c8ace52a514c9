package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// Image queues the fetching and indexing of an image that may be at its upstream
// only, for platforms as ParsePlatform gives them; none: those of its rule, or
// of what was converted of the tag before, or else this machine's. It is done
// under the rules; what they leave out is not fetched.
func (x *Indexer) Image(ctx context.Context, repo oci.Repo, ref oci.Reference, platforms []string) error {
	if x.opt.Disabled {
		return ErrDisabled
	}
	t := storage.TaskRow{
		Kind: storage.TaskImage, Repo: repo, Reference: ref.String(), Platforms: platforms, Created: x.now().UTC(),
	}
	if r := x.ruleFor(named{repo, tagOf(ref)}); r != nil {
		t.Priority = r.Priority
	}
	return x.putTasks(ctx, []storage.TaskRow{t})
}

func tagOf(ref oci.Reference) []string {
	if ref.Tag == "" {
		return nil
	}
	return []string{ref.Tag}
}

// Moved has the image indexed that a tag leads to now, whose converted form is
// asked for and is not there: nobody pulls it but by that. It does not wait.
func (x *Indexer) Moved(repo oci.Repo, tag string) {
	x.mu.Lock()
	_, asked := x.moved[movedTag{repo, tag}]
	x.moved[movedTag{repo, tag}] = struct{}{}
	x.mu.Unlock()
	if !asked {
		wake(x.toTask)
	}
}

// fileMoved makes tasks of the calls of Moved, one a tag that has none.
func (x *Indexer) fileMoved(ctx context.Context) error {
	x.mu.Lock()
	moved := slices.Collect(maps.Keys(x.moved))
	x.mu.Unlock()
	if len(moved) == 0 {
		return nil
	}
	err := x.store.Update(ctx, func(tx storage.Tx) error {
		for _, m := range moved {
			_, err := tx.Task(storage.TaskImage, m.repo, m.tag)
			if errors.Is(err, storage.ErrNotFound) {
				err = tx.PutTask(storage.TaskRow{Kind: storage.TaskImage, Repo: m.repo, Reference: m.tag, Created: x.now().UTC()})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		x.mu.Lock()
		for _, m := range moved {
			delete(x.moved, m)
		}
		x.mu.Unlock()
	}
	return err
}

// fetchImage does the task of Image: manifests now, layers by jobs.
func (x *Indexer) fetchImage(ctx context.Context, t *storage.TaskRow) error {
	ref, err := oci.ParseReference(t.Reference)
	if err != nil {
		return permanent{err}
	}
	if named, err := x.isPlatforms(ctx, t); err != nil || named {
		return err
	}
	d := ref.Digest
	if d == "" {
		if d, err = x.opt.Fetch.ResolveTag(ctx, t.Repo, ref.Tag); err != nil {
			return absentIsLasting(t, fmt.Errorf("find %s:%s: %w", t.Repo, ref.Tag, err))
		}
	}
	if t.Digest != "" && t.Digest != d && t.Attempts < notThereTries {
		return fmt.Errorf("find %s: %w", t.Digest, errNotThere)
	}
	if err := x.opt.Fetch.FetchManifest(ctx, t.Repo, d); err != nil {
		return absentIsLasting(t, fmt.Errorf("fetch manifest %s: %w", d, err))
	}
	manifests, err := x.wantedManifests(ctx, t, ref, d)
	if err != nil {
		return err
	}
	if len(manifests) == 0 && len(t.Platforms) == 0 {
		x.log.DebugContext(ctx, "nothing to index", "repo", t.Repo.String(), "ref", t.Reference, "digest", d)
		return nil // of no platform that is usual here, or no image at all: a list of referrers
	}
	if len(manifests) == 0 {
		return permanent{fmt.Errorf("%s has none of the platforms that are wanted", d)}
	}
	for _, m := range manifests {
		if m == d {
			continue
		}
		if err := x.opt.Fetch.FetchManifest(ctx, t.Repo, m); err != nil {
			return absentIsLasting(t, fmt.Errorf("fetch manifest %s: %w", m, err))
		}
	}
	return x.fetchLayers(ctx, manifests)
}

// wantedManifests are those of the image d that the task is about: of the platforms
// that it names, or else those that are usual here.
func (x *Indexer) wantedManifests(ctx context.Context, t *storage.TaskRow, ref oci.Reference, d digest.Digest) (manifests []digest.Digest, err error) {
	err = x.store.View(ctx, func(tx storage.Tx) error {
		manifests = manifests[:0]
		row, err := tx.Manifest(d)
		if err != nil {
			return err
		}
		if row.Manifest.IsSOCI() {
			return nil
		}
		rule := &Rule{Platforms: t.Platforms}
		if len(t.Platforms) == 0 && row.Manifest.IsIndex() {
			if rule.Platforms, err = x.usualPlatforms(tx, t.Repo, ref); err != nil {
				return err
			}
		}
		for _, a := range askedOf(&row, rule) {
			manifests = append(manifests, a.manifest)
		}
		return nil
	})
	return manifests, err
}

// absentIsLasting gives up on what the upstream has not, and of a push that was
// told of, does not show after a while either.
func absentIsLasting(t *storage.TaskRow, err error) error {
	switch {
	case !errors.Is(err, storage.ErrNotFound):
		return err
	case !t.Told || t.Attempts >= notThereTries:
		return permanent{err}
	default:
		return fmt.Errorf("%w: %w", errNotThere, err)
	}
}

// usualPlatforms are those of an image that nobody named any for.
func (x *Indexer) usualPlatforms(tx storage.Tx, repo oci.Repo, ref oci.Reference) ([]string, error) {
	if r := x.ruleFor(named{repo, tagOf(ref)}); r != nil && len(r.Platforms) > 0 {
		return r.Platforms, nil
	}
	if ref.Tag != "" {
		was, err := tx.ConvertedTag(repo, ref.Tag)
		if err == nil {
			row, err := tx.Conversion(was.Source, repo)
			if err == nil && len(row.Platforms) > 0 && row.Platforms[0] != "" {
				return row.Platforms, nil
			}
			if !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
		} else if !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
	}
	return []string{"linux/" + runtime.GOARCH}, nil
}
