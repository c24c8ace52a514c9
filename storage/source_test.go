package storage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestPartialsOfTwoSources holds that what one source sent of a blob is never
// found by who asks another.
func TestPartialsOfTwoSources(t *testing.T) {
	s := storagetest.NewStore(t)
	d := digest.FromString("blob")
	for _, tt := range []struct {
		source string
		found  int
	}{{"a", 0}, {"a", 1}, {"b", 0}, {"b", 1}, {"a", 0}} {
		p, err := s.OpenPartialFrom(t.Context(), d, tt.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(p.Have()); got != tt.found {
			t.Errorf("source %s found %d runs, want %d", tt.source, got, tt.found)
		}
		if tt.found == 0 && p.Size() != -1 {
			t.Errorf("source %s found a size of %d", tt.source, p.Size())
		}
		if _, err := p.WriteAt([]byte(tt.source), 0); err != nil {
			t.Fatal(err)
		}
		if err := p.Checkpoint(t.Context(), 4, []oci.Range{{Off: 0, End: 1}}); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartialBesideAnother: two sources send one blob at a time. Each has a partial
// with its own bytes; the first that is whole is the blob, and nothing is left of
// the other.
func TestPartialBesideAnother(t *testing.T) {
	for _, first := range []string{"a", "b"} {
		t.Run(first+" is whole first", func(t *testing.T) {
			s := storagetest.NewStore(t)
			d := digest.FromString("blob")
			open := func(source string) *storage.Partial {
				p, err := s.OpenPartialFrom(t.Context(), d, source)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.OpenPartialFrom(t.Context(), d, source); !errors.Is(err, storage.ErrBusy) {
					t.Errorf("source %s, again: %v", source, err)
				}
				return p
			}
			ps := map[string]*storage.Partial{"a": open("a")}
			if _, err := ps["a"].WriteAt([]byte("evil"), 0); err != nil {
				t.Fatal(err)
			}
			ps["b"] = open("b")
			var buf [4]byte
			if n, _ := ps["b"].ReadAt(buf[:], 0); n != 0 || len(ps["b"].Have()) != 0 {
				t.Errorf("b found %q of a", buf[:n])
			}
			for source, p := range ps {
				if _, err := p.WriteAt([]byte("blob"), 0); err != nil {
					t.Fatal(err)
				}
				if err := p.Checkpoint(t.Context(), 4, []oci.Range{{Off: 0, End: 4}}); err != nil {
					t.Errorf("checkpoint of %s: %v", source, err)
				}
			}
			second := map[string]string{"a": "b", "b": "a"}[first]
			for _, source := range []string{first, second} {
				if err := ps[source].Promote(t.Context(), storage.KindBlob, 4); err != nil {
					t.Errorf("promote that of %s: %v", source, err)
				}
				b, err := s.Open(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				if n, _ := b.ReadAt(buf[:], 0); string(buf[:n]) != "blob" {
					t.Errorf("the blob is %q", buf[:n])
				}
				_ = b.Close()
			}
			for source, p := range ps {
				if err := p.Close(); err != nil {
					t.Errorf("close that of %s: %v", source, err)
				}
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if u := s.Usage(); u.Partial != 0 || u.Total() != 4 {
				t.Errorf("usage %+v", u)
			}
			report, err := s.Check(t.Context(), storage.CheckOptions{})
			if err != nil || report.Problems+report.Leftovers != 0 {
				t.Errorf("check: %+v, %v", report, err)
			}
		})
	}
}

// TestPartialBesideIsDropped: what was not whole is gone with its Partial, and
// what the other one has filed stays.
func TestPartialBesideIsDropped(t *testing.T) {
	s := storagetest.NewStore(t)
	d := digest.FromString("blob")
	for _, discard := range []bool{false, true} {
		a, err := s.OpenPartialFrom(t.Context(), d, "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.WriteAt([]byte("bl"), 0); err != nil {
			t.Fatal(err)
		}
		if err := a.Checkpoint(t.Context(), 4, []oci.Range{{Off: 0, End: 2}}); err != nil {
			t.Fatal(err)
		}
		b, err := s.OpenPartialFrom(t.Context(), d, "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.WriteAt([]byte("xx"), 0); err != nil {
			t.Fatal(err)
		}
		if report, err := s.Check(t.Context(), storage.CheckOptions{Repair: true}); err != nil || report.Problems+report.Leftovers != 0 {
			t.Errorf("check beside them: %+v, %v", report, err)
		}
		if discard {
			if err := b.Discard(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(b.Close(), a.Close()); err != nil {
			t.Error(err)
		}
		a, err = s.OpenPartialFrom(t.Context(), d, "a")
		if err != nil {
			t.Fatal(err)
		}
		var buf [4]byte
		if n, _ := a.ReadAt(buf[:], 0); string(buf[:n]) != "bl" || len(a.Have()) != 1 {
			t.Errorf("a finds %q, %v", buf[:n], a.Have())
		}
		if u := s.Usage(); u.Stray != 0 {
			t.Errorf("usage %+v", u)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
