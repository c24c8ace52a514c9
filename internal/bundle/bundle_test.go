package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// stock is an image of one layer, and its bytes.
func stock() (Image, []Blob, map[digest.Digest][]byte) {
	bodies := map[digest.Digest][]byte{}
	add := func(b []byte) digest.Digest {
		d := digest.FromBytes(b)
		bodies[d] = b
		return d
	}
	layer, config := add(bytes.Repeat([]byte("layer"), 1000)), add([]byte("{}"))
	m := []byte(`{"schemaVersion":2}`)
	root := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: add(m), Size: int64(len(m))}
	x := Image{Reference: "up/a:1", Root: root, Manifests: []Manifest{{Descriptor: root}}, Blobs: []digest.Digest{config, layer}}
	var blobs []Blob
	for d, b := range bodies {
		blobs = append(blobs, Blob{Digest: d, Size: int64(len(b)), Manifest: d == root.Digest})
	}
	return x, blobs, bodies
}

func write(t testing.TB, images []Image, blobs []Blob, bodies map[digest.Digest][]byte) []byte {
	t.Helper()
	p, err := NewPlan(images, blobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = p.Write(&out, func(b Blob) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(bodies[b.Digest])), nil })
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readAll reads a bundle to its end.
func readAll(r io.Reader) (st *Statement, got map[digest.Digest][]byte, err error) {
	x, err := NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	st, _ = x.Statement()
	got = map[digest.Digest][]byte{}
	for {
		b, body, err := x.Next()
		if errors.Is(err, io.EOF) {
			return st, got, nil
		}
		if err != nil {
			return st, got, err
		}
		p, err := io.ReadAll(body)
		if err != nil {
			return st, got, err
		}
		got[b.Digest] = p
	}
}

func TestWriteAndRead(t *testing.T) {
	img, blobs, bodies := stock()
	other := img
	other.Reference = "up/b@" + img.Root.Digest.String()
	one := write(t, []Image{img, other}, blobs, bodies)
	for range 5 { // maps give another order each time
		_, blobs, _ := stock()
		if !bytes.Equal(one, write(t, []Image{other, img}, blobs, bodies)) {
			t.Fatal("the same images give other bytes")
		}
	}
	st, got, err := readAll(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bodies, got); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	if len(st.Images) != 2 || st.Images[0].Reference != img.Reference {
		t.Errorf("images %+v", st.Images)
	}
	e, err := st.Earlier("")
	if err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[string]bool{"up/a": true, "up/b": true, "up/c": false} {
		r, err := oci.ParseRepo(repo)
		if err != nil {
			t.Fatal(err)
		}
		if e.Has(r, img.Blobs[0]) != want {
			t.Errorf("Has(%s) is not %t", repo, want)
		}
	}
	if err := wrongBytes(img, blobs, bodies); err == nil || !strings.Contains(err.Error(), "is not what it is called by") {
		t.Errorf("writing wrong bytes: %v", err)
	}
}

func wrongBytes(img Image, blobs []Blob, bodies map[digest.Digest][]byte) error {
	p, err := NewPlan([]Image{img}, blobs, nil)
	if err != nil {
		return err
	}
	return p.Write(io.Discard, func(b Blob) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(strings.Repeat("x", len(bodies[b.Digest])))), nil
	})
}

// entry is one of a tar that was made by hand.
type entry struct {
	name string
	body string
	kind byte
}

func forge(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o644, Size: int64(len(e.body)), Linkname: "/etc/passwd"}
		if e.kind == 0 {
			h.Typeflag, h.Linkname = tar.TypeReg, ""
		}
		if e.kind == tar.TypeSymlink || e.kind == tar.TypeLink || e.kind == tar.TypeDir {
			h.Size = 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// forged makes a bundle that states what change made of a sound statement, and
// holds those files.
func forged(t testing.TB, change func(*Statement), files ...entry) []byte {
	img, blobs, _ := stock()
	st := Statement{Version: Version, Images: []Image{img}, Blobs: blobs}
	st.arrange()
	if change != nil {
		change(&st)
	}
	index, err := st.layoutIndex()
	if err != nil {
		t.Fatal(err)
	}
	st.Index = digest.FromBytes(index)
	text, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	head := []entry{{name: "oci-layout", body: layoutText}, {name: "index.json", body: string(index)}, {name: "sociable.json", body: string(text)}}
	return forge(t, append(head, files...)...)
}

func TestReadHostile(t *testing.T) {
	img, blobs, bodies := stock()
	sound := write(t, []Image{img}, blobs, bodies)
	st, _, err := readAll(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	var files []entry
	for _, b := range st.Blobs {
		files = append(files, entry{name: blobName(b.Digest), body: string(bodies[b.Digest])})
	}
	with := func(i int, e entry) []entry {
		out := append([]entry(nil), files...)
		out[i] = e
		return out
	}
	sha := func(s string) digest.Digest { return digest.FromString(s) }
	for name, tt := range map[string]struct {
		body []byte
		want string
	}{
		"empty":               {nil, "was it made by sociable export?"},
		"no tar":              {[]byte(strings.Repeat("hello ", 500)), "invalid tar header"},
		"another tar":         {forge(t, entry{name: "etc/passwd", body: "x"}), "was it made by sociable export?"},
		"another order":       {forge(t, entry{name: "index.json", body: "{}"}, entry{name: "oci-layout", body: layoutText}), "no oci-layout where it should be"},
		"path traversal":      {forged(t, nil, with(0, entry{name: "../../etc/passwd", body: "x"})...), "entry \"../../etc/passwd\""},
		"absolute path":       {forged(t, nil, with(1, entry{name: "/" + blobName(st.Blobs[1].Digest), body: files[1].body})...), "stands where"},
		"dots in a blob":      {forged(t, nil, with(1, entry{name: "blobs/sha256/../sha256/" + st.Blobs[1].Digest.Encoded(), body: files[1].body})...), "stands where"},
		"a symlink":           {forged(t, nil, with(1, entry{name: files[1].name, kind: tar.TypeSymlink})...), "is no regular file"},
		"a hard link":         {forged(t, nil, with(1, entry{name: files[1].name, kind: tar.TypeLink})...), "is no regular file"},
		"a device":            {forged(t, nil, with(1, entry{name: files[1].name, kind: tar.TypeBlock})...), "is no regular file"},
		"a symlinked index":   {forge(t, entry{name: "oci-layout", body: layoutText}, entry{name: "index.json", kind: tar.TypeSymlink}), "is no regular file"},
		"other bytes":         {forged(t, nil, with(1, entry{name: files[1].name, body: strings.Repeat("x", len(files[1].body))})...), "are others than it is called by"},
		"shorter":             {forged(t, nil, with(1, entry{name: files[1].name, body: "x"})...), "it states"},
		"twice":               {forged(t, nil, append(append([]entry(nil), files...), files[1])...), "more than it states"},
		"missing":             {forged(t, nil, files[:2]...), "1 of 3 blobs are not in it"},
		"cut off":             {sound[:len(sound)-4000], "it ends early"},
		"a future version":    {forged(t, func(s *Statement) { s.Version = 3 }), "its version is 3"},
		"a giant manifest":    {forged(t, func(s *Statement) { s.Blobs[0].Size = oci.MaxManifestBytes + 1 }), "has a size of"},
		"a negative size":     {forged(t, func(s *Statement) { s.Blobs[1].Size = -1 }), "has a size of -1"},
		"listed twice":        {forged(t, func(s *Statement) { s.Blobs = append(s.Blobs, s.Blobs[2]) }), "is listed twice"},
		"manifest after blob": {forged(t, func(s *Statement) { s.Blobs[2].Manifest = true }), "comes after a blob"},
		"a tag of its own":    {forged(t, func(s *Statement) { s.Images[0].Manifests[0].Tag = "latest" }), "attaches it to nothing"},
		"no digest":           {forged(t, func(s *Statement) { s.Blobs[1].Digest = "sha256:../../x" }), "invalid digest"},
		"a bad name":          {forged(t, func(s *Statement) { s.Images[0].Reference = "up/../x:1" }), "invalid repository name"},
		"no upstream":         {forged(t, func(s *Statement) { s.Images[0].Reference = "redis:7" }), "does not name an upstream"},
		"no tag":              {forged(t, func(s *Statement) { s.Images[0].Reference = "up/redis" }), "invalid tag"},
		"a tag as digest":     {forged(t, func(s *Statement) { s.Images[0].Reference = "up/redis@latest" }), "neither tag nor digest"},
		"another's digest":    {forged(t, func(s *Statement) { s.Images[0].Reference = "up/a@" + sha("x").String() }), "is said to be"},
		"an image twice":      {forged(t, func(s *Statement) { s.Images = append(s.Images, s.Images[0]) }), "is listed twice"},
		"a stranger's blob":   {forged(t, func(s *Statement) { s.Images[0].Blobs = append(s.Images[0].Blobs, sha("secret")) }), "neither in it nor left out"},
		"no manifest":         {forged(t, func(s *Statement) { s.Images[0].Manifests = nil }), "does not begin with its own manifest"},
		"a stranger's root": {forged(t, func(s *Statement) {
			s.Images[0].Root.Digest = sha("secret")
			s.Images[0].Manifests = []Manifest{{Descriptor: s.Images[0].Root}}
		}), "is not in it"},
		"a huge statement": {forge(t, entry{name: "oci-layout", body: layoutText}, entry{name: "index.json", body: strings.Repeat(" ", maxHead+1)}), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readAll(bytes.NewReader(tt.body))
			if !errors.Is(err, ErrBundle) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if _, _, err := readAll(bytes.NewReader(forged(t, nil, append([]entry{{name: "blobs/", kind: tar.TypeDir}}, files...)...))); err != nil {
		t.Errorf("a bundle that was packed again, with folders: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	img, blobs, bodies := stock()
	f.Add(write(f, []Image{img}, blobs, bodies))
	f.Add(forged(f, nil))
	f.Add(forged(f, func(s *Statement) { s.Images[0].LeftOut = s.Images[0].Blobs }))
	f.Fuzz(func(t *testing.T, body []byte) {
		st, got, err := readAll(bytes.NewReader(body))
		for d, b := range got {
			if d.Algorithm().FromBytes(b) != d {
				t.Errorf("%s has other bytes", d)
			}
		}
		if err != nil {
			if !errors.Is(err, ErrBundle) {
				t.Errorf("%v is no ErrBundle", err)
			}
			return
		}
		for _, x := range st.Images {
			if got[x.Root.Digest] == nil {
				t.Errorf("%s came without its manifest", x.Reference)
			}
		}
		if len(got) != len(st.Blobs) {
			t.Errorf("%d blobs, %d stated", len(got), len(st.Blobs))
		}
	})
}
