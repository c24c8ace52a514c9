package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// pulledImages finds images by pulling them through the proxy, and those that
// are named by a digest alone where they were seen.
func pulledImages(px *proxy.Proxy, s *storage.Store) web.Finder {
	return func(ctx context.Context, word string, platforms []v1.Platform, known func(context.Context, web.Found) error, tell func(bytes, of int64)) error {
		if _, err := oci.ParseDigest(word); err == nil {
			err = s.View(ctx, func(tx storage.Tx) error {
				x, err := web.Resolve(tx, word)
				word = x.Reference
				return err
			})
			if err != nil {
				return err
			}
		}
		repo, ref, err := px.Name(word)
		if err != nil {
			return err
		}
		_, err = px.Pull(ctx, repo, ref, oci.PullOptions{
			Platforms: platforms, Fresh: true, Progress: func(p oci.PullProgress) { tell(p.Bytes, p.OfBytes) },
			Known: func(ctx context.Context, img oci.PulledImage) error { return known(ctx, foundIn(repo, img)) },
		})
		return err
	}
}

// foundIn are the images among what was pulled.
func foundIn(repo oci.Repo, img oci.PulledImage) web.Found {
	out := web.Found{Repo: repo, Only: !(&oci.Manifest{MediaType: img.Root.MediaType}).IsIndex()}
	for _, m := range img.Manifests {
		index := (&oci.Manifest{MediaType: m.MediaType}).IsIndex()
		if attestation := m.Platform != nil && !oci.RealPlatform(m.Platform); !index && !attestation {
			out.Manifests = append(out.Manifests, m.Digest)
		}
	}
	return out
}

// Create has the running server do it. What it was asked for it goes on with,
// also when nobody waits any more.
func (c *adminClient) Create(ctx context.Context, q web.CreateRequest, tell func(web.CreateProgress)) ([]IndexInfo, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/create", q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e web.CreateEvent
		err := lines.Decode(&e)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read the running server's answer: %w", err)
		case e.Progress != nil:
			tell(*e.Progress)
		case e.Error != "":
			return e.Indexes, errors.New(e.Error)
		default:
			return e.Indexes, nil
		}
	}
}

// Create indexes what is whole in the store, by an indexer that runs as long.
func (o *offline) Create(ctx context.Context, q web.CreateRequest, tell func(web.CreateProgress)) (list []IndexInfo, err error) {
	ix := indexer.New(indexer.Options{Store: o.store, OnlyAsked: true, Rules: o.rules, SpillDir: filepath.Join(o.dir, "tmp"), Limits: o.limits})
	ctx, end := context.WithCancel(ctx)
	stage := newStages(context.WithoutCancel(ctx))
	stage.start("store", o.store.Run)
	stage.start("indexer", ix.Run)
	c := web.Creator{Store: o.store, Find: web.StoredImages(o.store), Index: ix}
	list, err = c.Create(ctx, q, tell)
	end()
	return list, errors.Join(err, stage.wait(ctx))
}
