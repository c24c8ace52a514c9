package learn

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// layerBytes is a layer of n files that compress badly.
func layerBytes(t *testing.T, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	rnd := rand.NewChaCha8([32]byte{1})
	for i := range n {
		body := make([]byte, 20_000)
		_, _ = rnd.Read(body) // never fails
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("f%03d", i), Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var learnedIndex = digest.FromString("learned")

// TestThirdStartIsOffered: two starts teach, the third is offered what they read,
// and has it brought here in the order in which they did.
func TestThirdStartIsOffered(t *testing.T) {
	inWorld(t, Policy{}, func(w *world) {
		for _, addr := range []string{"10.0.0.1", "10.0.0.2"} {
			if got := w.start(addr, 5, 1, 2); got != w.img.Index {
				t.Errorf("%s is offered %s", addr, got)
			}
		}
		if got := learnt(ptr(w.row())); !slices.Equal(got, []int{1, 2, 5}) {
			t.Fatalf("learnt %v", got)
		}
		if got := w.start("10.0.0.3", 1); got != learnedIndex {
			t.Errorf("the third start is offered %s", got)
		}
		if row := w.row(); row.Starts != 2 || row.Offered != 1 || w.published != 1 {
			t.Errorf("%d starts, %d offered, published %d times", row.Starts, row.Offered, w.published)
		}
		if len(w.warmed) != 1 || len(w.warmed[0]) != 3 || w.warmed[0][0].Range != span(w, 5) || w.warmed[0][1].Range != span(w, 1) {
			t.Errorf("brought here: %v", w.warmed)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func span(w *world, i int) oci.Range {
	s := w.table.Span(i)
	return oci.Range{Off: s.Off, End: s.End}
}

// TestMountTellsOfAStart: a client whose daemon knows the index mounts the layer
// without asking for it.
func TestMountTellsOfAStart(t *testing.T) {
	inWorld(t, Policy{}, func(w *world) {
		for _, addr := range []string{"10.0.0.1", "10.0.0.2"} {
			w.mount(addr)
			time.Sleep(time.Second)
			w.span(addr, 3)
			time.Sleep(time.Minute)
		}
		w.span("10.0.0.9", 4) // of nobody's start
		time.Sleep(time.Minute)
		synctest.Wait()
		if row := w.row(); row.Starts != 2 || !slices.Equal(learnt(&row), []int{3}) {
			t.Errorf("%d starts, learnt %v", row.Starts, learnt(&row))
		}
	})
}

// TestDoctorStartsNothing: who only looks whether a start would succeed does not
// count, and has nothing brought here.
func TestDoctorStartsNothing(t *testing.T) {
	inWorld(t, Policy{MinStarts: 1}, func(w *world) {
		r := w.request("10.0.0.1")
		r.Header.Set("User-Agent", oci.DoctorAgent)
		w.l.Offer(r, repo, w.img.Manifest.Digest, v1.Descriptor{Digest: w.img.Index}, true)
		w.l.Read(r, w.layer, oci.Range{Off: 0, End: w.table.HeadEnd()}, span(w, 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		if row := w.row(); row.Starts != 0 || len(w.warmed) > 0 {
			t.Errorf("%d starts", row.Starts)
		}
	})
}

// TestOfferedStartsExpire: starts that were offered what was learnt do not confirm
// it. Without any other it is forgotten, and the plain index is offered; where
// some are left out, what these read stays.
func TestOfferedStartsExpire(t *testing.T) {
	day := 24 * time.Hour
	for name, tc := range map[string]struct {
		spans []int // that later starts read
		want  []int
	}{
		"nothing is read any more": {nil, nil},
		"some of it still is":      {[]int{2}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Policy{Expire: 10 * day}, func(w *world) {
				w.start("10.0.0.1", 1, 2)
				w.start("10.0.0.2", 1, 2)
				left := 0
				for range 24 {
					time.Sleep(12 * time.Hour)
					if len(tc.spans) > 0 && w.start("10.0.0.3", tc.spans...) == w.img.Index {
						left++
					}
				}
				synctest.Wait()
				row := w.row()
				if got := learnt(&row); !slices.Equal(got, tc.want) {
					t.Errorf("learnt %v, want %v; %d of 24 clients were left out", got, tc.want, left)
				}
				if len(tc.spans) > 0 && (left == 0 || left > 12) {
					t.Errorf("%d of 24 clients were left out, although the first half of the time nobody need be", left)
				}
				if want := w.img.Index; len(tc.want) == 0 && w.ask("10.0.0.4") != want {
					t.Error("what is forgotten is still offered")
				}
			})
		})
	}
}

// TestTooMuchIsDropped: requests that nobody looks at never wait.
func TestTooMuchIsDropped(t *testing.T) {
	inWorld(t, Policy{}, func(w *world) {
		l := New(Options{Store: w.db}) // nobody runs it
		l.Read(w.request("10.0.0.1"), w.layer, oci.Range{Off: 1, End: 2})
		if n := len(l.events); n != 0 {
			t.Errorf("a client that starts nothing is listened to: %d", n)
		}
		l.Read(w.request("10.0.0.1"), w.layer, oci.Range{Off: 0, End: 10})
		for range maxEvents + 10 {
			l.Read(w.request("10.0.0.1"), w.layer, oci.Range{Off: 1, End: 2})
		}
		if n := len(l.events); n != maxEvents {
			t.Errorf("%d requests wait", n)
		}
	})
}
