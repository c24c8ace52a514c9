package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// layer is the one of image big.
func (b *bench) layer() v1.Descriptor { return b.catalog.Big.Layers[0] }

// layerPath is the path of image big's layer.
func (b *bench) layerPath(s *server) string { return s.blob(b.catalog.Big.Repo, b.layer().Digest) }

// original is a blob or manifest as the registry has it.
func (b *bench) original(d v1.Descriptor) ([]byte, error) {
	return os.ReadFile(b.catalog.blobPath(d.Digest))
}

// getTag asks for an image's manifest by its tag; "" if the answer was right.
func (b *bench) getTag(ctx context.Context, s *server, im image) (*answer, string) {
	want, err := b.original(im.Manifest)
	if err != nil {
		return &answer{}, err.Error()
	}
	a := s.get(ctx, s.manifest(im, im.Tag), whole, want)
	f := a.fault(http.StatusOK, im.Manifest.Size)
	if got := a.header.Get("Content-Type"); f == "" && got != im.Manifest.MediaType {
		f = "manifest of type " + got
	}
	if f != "" {
		f = "manifest: " + f
	}
	return a, f
}

// pull asks for image big's manifest and layer, as every client does.
func (b *bench) pull(ctx context.Context, s *server) sample {
	start := time.Now()
	_, fault := b.getTag(ctx, s, b.catalog.Big)
	if fault != "" {
		return sample{fault: fault}
	}
	a := s.get(ctx, b.layerPath(s), whole, b.big)
	return sample{took: time.Since(start).Seconds(), first: a.first.Seconds(), fault: a.fault(http.StatusOK, b.layer().Size)}
}

// coldPull is the whole of an image that nobody had before.
func (b *bench) coldPull(ctx context.Context) ([]*row, error) {
	var listed []float64
	all, err := b.rounds(ctx, times{direct: 3, sociable: 3, nginx: 2, distribution: 2}, conditions{link: slow}, time.Second,
		func(ctx context.Context, s *server, _ int) sample {
			x := b.pull(ctx, s)
			if s.kind == sociable && x.fault == "" {
				end := time.Now()
				if _, err := b.awaitIndex(ctx, s); err != nil {
					x.fault = err.Error()
				}
				listed = append(listed, time.Since(end).Seconds())
			}
			return x
		})
	if err != nil {
		return nil, err
	}
	pulled := newRow("cold full pull incl. manifest, indexing on", "≤ 1.02 × direct")
	pulled.fill(all, func(xs []sample) string {
		return fmt.Sprintf("%s, × %.2f bytes", seconds(median(xs, took)), float64(median(xs, bytesOf))/float64(b.layer().Size))
	})
	ratio := median(all[sociable], took) / median(all[direct], took)
	pulled.Cells[sociable] += fmt.Sprintf(" (%.3f × direct)", ratio)
	pulled.time(ratio <= 1.02, "%.3f × direct", ratio)
	pulled.must(worst(all[sociable], blobsOf) == 1, "%s for the blob", requests(worst(all[sociable], blobsOf)))
	pulled.must(worst(all[sociable], bytesOf) < b.layer().Size*1001/1000, "%s from the upstream", mib(worst(all[sociable], bytesOf)))

	begun := newRow("… first byte", "≤ direct + 3 ms")
	begun.fill(all, func(xs []sample) string { return seconds(median(xs, first)) })
	over := median(all[sociable], first) - median(all[direct], first)
	begun.Cells[sociable] += fmt.Sprintf(" (direct %+.1f ms)", over*1e3)
	begun.time(over <= 0.003, "direct %+.1f ms", over*1e3)

	index := newRow("… its index listed, after the last byte", "≤ 0.2 s")
	d := median(listed, same)
	index.Cells[sociable] = seconds(d)
	index.time(d <= 0.2, "%s", seconds(d))
	return []*row{pulled, begun, index}, nil
}

// awaitIndex gives image big's SOCI index manifest as soon as it is listed.
func (b *bench) awaitIndex(ctx context.Context, s *server) (v1.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	path := s.repo(b.catalog.Big.Repo) + "/referrers/" + b.catalog.Big.Manifest.Digest.String()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var list v1.Index
		a := s.get(ctx, path, whole, nil)
		if a.err == nil && a.status == http.StatusOK {
			if err := json.Unmarshal(a.body, &list); err != nil {
				return v1.Descriptor{}, fmt.Errorf("referrers: %w", err)
			}
			if len(list.Manifests) == 1 {
				return list.Manifests[0], nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return v1.Descriptor{}, fmt.Errorf("no index is listed: status %d, %v, %s", a.status, a.err, a.body)
		}
	}
}

// coldHead asks how large a blob is that nobody had before.
func (b *bench) coldHead(ctx context.Context) ([]*row, error) {
	n := times{direct: 5, sociable: 5, nginx: 3, distribution: 1}
	all, err := b.rounds(ctx, n, conditions{link: slow}, 8*time.Second, func(ctx context.Context, s *server, _ int) sample {
		a := s.head(ctx, b.layerPath(s))
		x := sample{took: a.took.Seconds(), fault: a.fault(http.StatusOK, 0)}
		if x.fault == "" && a.length != b.layer().Size {
			x.fault = fmt.Sprintf("Content-Length %d", a.length)
		}
		return x
	})
	if err != nil {
		return nil, err
	}
	r := newRow("cold HEAD of a blob", "1 request, 0 bytes")
	r.fill(all, func(xs []sample) string {
		return fmt.Sprintf("%s, %s, %s", requests(median(xs, requestsOf)), mib(median(xs, bytesOf)), seconds(median(xs, took)))
	})
	n1, n2 := worst(all[sociable], requestsOf), worst(all[sociable], bytesOf)
	r.must(n1 == 1 && n2 == 0, "%s, %d bytes", requests(n1), n2)
	return []*row{r}, nil
}

// smallLayers is an image that is all round trips.
func (b *bench) smallLayers(ctx context.Context) ([]*row, error) {
	all, err := b.rounds(ctx, times{direct: 7, sociable: 7, nginx: 5, distribution: 3}, conditions{link: slow}, time.Second,
		func(ctx context.Context, s *server, _ int) sample { return b.pullSmall(ctx, s) })
	if err != nil {
		return nil, err
	}
	r := newRow("image of 40 small layers, 4 at once", "≤ 1.1 × direct")
	r.fill(all, func(xs []sample) string {
		return fmt.Sprintf("%s, %s", seconds(median(xs, took)), requests(median(xs, requestsOf)))
	})
	ratio := median(all[sociable], took) / median(all[direct], took)
	r.Cells[sociable] += fmt.Sprintf(" (%.2f × direct)", ratio)
	r.time(ratio <= 1.1, "%.2f × direct", ratio)
	r.must(worst(all[sociable], requestsOf) <= 42, "%s", requests(worst(all[sociable], requestsOf)))
	return []*row{r}, nil
}

func (b *bench) pullSmall(ctx context.Context, s *server) sample {
	im := b.catalog.Small
	blobs := append([]v1.Descriptor{im.Config}, im.Layers...)
	originals := make([][]byte, len(blobs))
	for i, d := range blobs {
		var err error
		if originals[i], err = b.original(d); err != nil {
			return sample{fault: err.Error()}
		}
	}
	start := time.Now()
	if _, fault := b.getTag(ctx, s, im); fault != "" {
		return sample{fault: fault}
	}
	fault := inParallel(len(blobs), 4, func(i int) string {
		a := s.get(ctx, s.blob(im.Repo, blobs[i].Digest), whole, originals[i])
		return a.fault(http.StatusOK, blobs[i].Size)
	})
	return sample{took: time.Since(start).Seconds(), fault: fault}
}

// inParallel calls f for 0 to n-1, width at a time, and gives one fault of all.
func inParallel(n, width int, f func(i int) string) (fault string) {
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range width {
		wg.Go(func() {
			for i := range todo {
				if x := f(i); x != "" {
					mu.Lock()
					fault = x
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return fault
}
