package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexesOf finds the indexes of the one image that word means: one, or where it
// is for many platforms, that of each.
func (p place) indexesOf(ctx context.Context, word string, platforms []string) (list []IndexInfo, err error) {
	if p.layout != nil {
		if list, err = p.indexes(ctx); err == nil {
			list, err = p.oneMeant(list, word, platforms)
		}
		return list, err
	}
	err = withStore(ctx, p.dataDir, func(api adminAPI) error {
		all, err := api.Indexes(ctx)
		if err != nil {
			return err
		}
		if list, err = p.oneMeant(all, word, platforms); err != nil {
			return err
		}
		for i, x := range list {
			if list[i], err = api.Index(ctx, x.Manifest); err != nil {
				return err
			}
			if !isDigest(word) {
				list[i].BeginWith(namedAs(word, x))
			}
		}
		return nil
	})
	return list, err
}

// oneMeant is the one image that word means, once for each of the platforms,
// which are all for none.
func (p place) oneMeant(all []IndexInfo, word string, platforms []string) ([]IndexInfo, error) {
	list, err := p.meant(all, word)
	if err != nil {
		for _, z := range zTOCsOf(all) {
			if isDigest(word) && strings.HasPrefix(z.Digest.String(), word) {
				return nil, fmt.Errorf("%s is a zTOC, no index: see sociable ztoc info", word)
			}
		}
		return nil, err
	}
	if list, err = forPlatforms(list, word, platforms); err != nil {
		return nil, err
	}
	for i, x := range list {
		if k := slices.IndexFunc(list[:i], func(y IndexInfo) bool { return isDigest(word) || x.Platform == y.Platform }); k >= 0 {
			return nil, fmt.Errorf("%q could mean %s or %s, of %d; name it by its digest",
				word, shortDigest(list[k].Manifest), shortDigest(x.Manifest), len(list))
		}
	}
	return list, nil
}

// forPlatforms are those of the list that are for one of the platforms, all for
// none. That there is no such is an error.
func forPlatforms(list []IndexInfo, word string, platforms []string) ([]IndexInfo, error) {
	names, err := platformNames(platforms)
	if err != nil || len(names) == 0 {
		return list, err
	}
	var has []string
	var wanted []IndexInfo
	for _, x := range list {
		has = append(has, orDash(x.Platform))
		if slices.Contains(names, x.Platform) {
			wanted = append(wanted, x)
		}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("%s is not known here for %s, but for: %s", word, strings.Join(names, ", "), strings.Join(has, ", "))
	}
	return wanted, nil
}

// meant are the images that word means, all for "": in a layout it may be a tag,
// or the layout itself, with a tag or without.
func (p place) meant(all []IndexInfo, word string) ([]IndexInfo, error) {
	if word == "" {
		return all, nil
	}
	matches, where := matcher(word), "--all"
	if p.layout != nil {
		where = p.layout.dir
		l, ok, err := p.layout.tagged(word)
		if err != nil {
			return nil, err
		}
		if ok {
			named, err := l.layoutIndexes()
			if err != nil {
				return nil, err
			}
			matches = func(x IndexInfo) bool {
				return slices.ContainsFunc(named, func(n IndexInfo) bool { return n.Index == x.Index })
			}
		}
	}
	list := slices.DeleteFunc(slices.Clone(all), func(x IndexInfo) bool { return !matches(x) })
	if len(list) == 0 {
		return nil, fmt.Errorf("no indexed image is meant by %q; sociable index list %s shows what there is", word, where)
	}
	return list, nil
}

// tagged is the layout with the tag that word names: TAG, DIR:TAG, or DIR alone. ok
// says that it does.
func (l layout) tagged(word string) (_ layout, ok bool, err error) {
	if same, ok := openLayout(word); ok && filepath.Clean(same.dir) == filepath.Clean(l.dir) {
		return layout{l.dir, same.tag}, true, nil
	}
	idx, err := l.index()
	ok = slices.ContainsFunc(idx.Manifests, func(d v1.Descriptor) bool {
		return d.ArtifactType == "" && d.Annotations[v1.AnnotationRefName] == word
	})
	return layout{l.dir, word}, ok, err
}
