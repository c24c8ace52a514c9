package bolt

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// FuzzDigestKey reads any key: what is read as a digest must be one, and lead
// back to the same bytes.
func FuzzDigestKey(f *testing.F) {
	for _, d := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		key, err := digestKey(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key)
		f.Add(append(key, "more"...))
		f.Add(key[:20])
	}
	f.Add([]byte{3, 4})
	f.Fuzz(func(t *testing.T, key []byte) {
		d, rest, err := cutDigest(key)
		if err != nil {
			return
		}
		if err := d.Validate(); err != nil {
			t.Fatalf("%x reads as %q: %v", key, d, err)
		}
		back, err := digestKey(d)
		if err != nil || !bytes.Equal(append(back, rest...), key) {
			t.Fatalf("%x reads as %s and back as %x, %v", key, d, back, err)
		}
	})
}

// FuzzDigest puts any text in a key: exactly what go-digest takes for a sha256
// or sha512 is accepted, and read back.
func FuzzDigest(f *testing.F) {
	good := digest.FromString("x").String()
	for _, s := range []string{good, digest.SHA512.FromString("x").String(), strings.ToUpper(good), good + "0", "sha256:", "", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := digest.Digest(s)
		valid := d.Validate() == nil && (d.Algorithm() == digest.SHA256 || d.Algorithm() == digest.SHA512)
		key, err := digestKey(d)
		if valid != (err == nil) {
			t.Fatalf("digestKey(%q): %v, but valid is %t", s, err, valid)
		}
		if err != nil {
			return
		}
		if got, rest, err := cutDigest(key); got != d || len(rest) != 0 || err != nil {
			t.Fatalf("%q is read back as %q, %x, %v", s, got, rest, err)
		}
	})
}

// FuzzRightKey has keys of different pairs differ, and be read back.
func FuzzRightKey(f *testing.F) {
	f.Add("docker.io", "library/redis")
	f.Add("docker.io/library", "redis")
	f.Add("", "")
	f.Add("a\x00", "b")
	f.Fuzz(func(t *testing.T, upstream, name string) {
		repo := oci.Repo{Upstream: upstream, Name: name}
		key, err := appendRepo(nil, repo)
		if err != nil {
			if !strings.Contains(upstream+name, "\x00") {
				t.Fatalf("%+v refused: %v", repo, err)
			}
			return
		}
		if got, err := cutRepo(key); got != repo || err != nil {
			t.Fatalf("%+v is read back as %+v, %v", repo, got, err)
		}
	})
}

// FuzzBlobRow reads any row. Those that are accepted keep their meaning when
// they are written and read again.
func FuzzBlobRow(f *testing.F) {
	d := digest.FromString("x")
	for _, row := range []storage.BlobRow{
		{Digest: d, Kind: storage.KindSpan, Size: 1 << 40, Of: d, Created: time.Unix(1, 2).UTC(), Accessed: time.Unix(-5, 0).UTC()},
		{Digest: d, Kind: storage.KindIndex},
	} {
		v, err := encodeBlobRow(row)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(v)
		f.Add(v[:len(v)/2])
	}
	f.Add([]byte{2, 1})
	f.Fuzz(func(t *testing.T, v []byte) {
		row, err := decodeBlobRow(d, v)
		if err != nil {
			return
		}
		again, err := encodeBlobRow(row)
		if err != nil {
			t.Fatalf("%x reads as %+v, which can't be written: %v", v, row, err)
		}
		back, err := decodeBlobRow(d, again)
		if diff := cmp.Diff(row, back); diff != "" || err != nil {
			t.Fatalf("%x does not survive (-first +again): %v\n%s", v, err, diff)
		}
	})
}

// FuzzTimeKey has keys sort as their times do.
func FuzzTimeKey(f *testing.F) {
	f.Add(int64(0), int64(0), int64(0), int64(1))
	f.Add(int64(-1), int64(999999999), int64(0), int64(0))
	f.Add(int64(-62135596800), int64(0), int64(253402300799), int64(5))
	f.Fuzz(func(t *testing.T, s1, n1, s2, n2 int64) {
		a, b := time.Unix(s1>>8, n1%1e9), time.Unix(s2>>8, n2%1e9)
		got := bytes.Compare(timeKey(a), timeKey(b))
		if want := a.Compare(b); got != want {
			t.Fatalf("%v and %v sort as %d, want %d", a, b, got, want)
		}
	})
}

// FuzzHeat reads any heat of a layer's spans. What is accepted keeps its meaning
// when it is written and read again.
func FuzzHeat(f *testing.F) {
	f.Add(encodeHeat([]storage.SpanHeat{{}, {Reads: 3, Last: time.Unix(1700000000, 0)}, {}}))
	f.Add([]byte{1, 5})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, v []byte) {
		spans, err := decodeHeat(v)
		if err != nil {
			return
		}
		back, err := decodeHeat(encodeHeat(spans))
		if diff := cmp.Diff(spans, back); diff != "" || err != nil {
			t.Fatalf("%x does not survive (-first +again): %v\n%s", v, err, diff)
		}
	})
}

// FuzzPulls reads any row of pulls. What is accepted keeps its meaning when it is
// written and read again.
func FuzzPulls(f *testing.F) {
	d := digest.FromString("x")
	f.Add([]byte{1, 3, 0x80, 1, 5})
	f.Add([]byte{1, 3, 5})
	f.Add([]byte{2})
	db, err := Open(filepath.Join(f.TempDir(), "meta.db"), Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	f.Fuzz(func(t *testing.T, v []byte) {
		row, err := decodePulls(d, v)
		if err != nil {
			return
		}
		err = db.Update(t.Context(), func(tx storage.Tx) error {
			if err := tx.PutPulls(row); err != nil {
				return err
			}
			back, err := tx.Pulls(d)
			if diff := cmp.Diff(row, back); diff != "" {
				t.Errorf("%x does not survive (-first +again):\n%s", v, diff)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
