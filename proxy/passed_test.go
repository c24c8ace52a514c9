package proxy

import (
	"bytes"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

// passedOn notes what an indexer is told to have gone by.
type passedOn struct{ told }

func (x *passedOn) Passed(repo oci.Repo, d digest.Digest) {
	x.note("passed " + repo.String() + " " + d.String())
}

// TestPassedIsTold: the indexer is told of a blob that went by whole, was right, and
// for which there was no room, from the first byte or from somewhere in the middle, in one
// piece or in parts; and not of some parts, of wrong bytes, or of what we could not fetch ourselves.
func TestPassedIsTold(t *testing.T) {
	layer := random(3<<20, 41)
	for _, tt := range []struct {
		name   string
		full   int32 // the medium is, after so many writes; 0: the store is too small
		caller bool
		spoil  bool
		header []string
		parts  []string // ranges, one after the other, instead
		want   bool
	}{
		{name: "no room", want: true},
		{name: "no more room", full: 8, want: true},
		{name: "a part", header: []string{"Range", "bytes=1000-1999"}},
		{name: "all in parts", parts: []string{"bytes=2000000-", "bytes=0-999999", "bytes=500000-2000000"}, want: true},
		{name: "all in parts, no more room", full: 8, parts: []string{"bytes=0-999999", "bytes=1000000-1999999", "bytes=2000000-"}, want: true},
		{name: "but for the end", parts: []string{"bytes=0-999999", "bytes=1000000-1999999"}},
		{name: "in parts, as a caller", parts: []string{"bytes=0-999999", "bytes=1000000-"}, caller: true},
		{name: "as a caller", caller: true},
		{name: "wrong bytes", spoil: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, dir, index := newRegistry(t), t.TempDir(), &passedOn{}
			s := newServerAt(t, dir, g, func(o *Options) {
				o.Indexer = index
				if up := o.Upstreams[0]; tt.caller {
					up.AsCaller = func(*http.Request, oci.Repo) Registry { return up.Registry }
				}
			}, func(o *storage.Options) {
				if o.MaxBytes = 1 << 20; tt.full == 0 {
					return
				}
				o.MaxBytes = 0
				faults := storagetest.NewFaults(dir)
				var n atomic.Int32
				faults.Hook(func(step storagetest.Step) error {
					if step.Op == "write" && n.Add(1) > tt.full {
						return syscall.ENOSPC
					}
					return nil
				})
				blobs, err := disk.NewFS(filepath.Join(dir, "full"), faults.FS(disk.OS{}))
				if err != nil {
					t.Fatal(err)
				}
				o.Blobs = blobs
			})
			d := g.addBlob("a", layer)
			if tt.spoil {
				bad := bytes.Clone(layer)
				bad[len(bad)/2] ^= 1
				g.serve = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
					if r.Method == http.MethodGet {
						_, _ = w.Write(bad)
					}
					return r.Method == http.MethodGet
				}
			}
			headers := [][]string{tt.header}
			if len(tt.parts) > 0 {
				headers = nil
			}
			for _, r := range tt.parts {
				headers = append(headers, []string{"Range", r})
			}
			for _, h := range headers {
				if a := s.do(t, http.MethodGet, "/v2/up/a/blobs/"+d.String(), h...); (a.err != nil) != tt.spoil {
					t.Errorf("%v: %d, %d bytes, %v", h, a.status, len(a.body), a.err)
				}
			}
			if got := slices.Contains(index.list(), "passed up/a "+d.String()); got != tt.want {
				t.Errorf("told %v, want %t", index.list(), tt.want)
			}
		})
	}
}
