package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// tabled is a plain tar of 64 KiB, cut into spans of 8 KiB, and its table.
func tabled(t testing.TB) ([]byte, ztoc.SpanTable) {
	t.Helper()
	layer := forge(t, entry{name: "f", body: strings.Repeat("0123456789abcdef", 4000)})
	b, err := ztoc.NewBuilder(8<<10, ztoc.Options{Compression: ztoc.Uncompressed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(layer); err != nil {
		t.Fatal(err)
	}
	r, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	table, err := r.Table()
	if err != nil {
		t.Fatal(err)
	}
	return layer, table
}

func TestSpans(t *testing.T) {
	layer, table := tabled(t)
	sound := Spans{Layer: digest.FromBytes(layer), Size: int64(len(layer)), ZTOC: digest.FromString("z"), Head: layer[:512],
		Runs: RunsOf([]int{0, 1, 4})}
	if diff := cmp.Diff([]SpanRun{{0, 1}, {4, 4}}, sound.Runs); diff != "" || sound.Count() != 3 {
		t.Errorf("RunsOf (-want +got), %d in all:\n%s", sound.Count(), diff)
	}
	verify := func(body []byte) ([]oci.Range, error) {
		s, at, err := ReadSpansHead(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		return VerifySpans(bytes.NewReader(body), int64(len(body)), at, s, table)
	}
	write := func(change func(*Spans), from []byte) []byte {
		s := sound
		if change != nil {
			change(&s)
		}
		head, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		out := append([]byte(spansMagic), append(head, '\n')...)
		return append(out, from...)
	}
	runs := bytes.Join([][]byte{layer[:16<<10], layer[32<<10 : 40<<10]}, nil)
	got, err := verify(write(nil, runs))
	if diff := cmp.Diff([]oci.Range{{Off: 0, End: 16 << 10}, {Off: 32 << 10, End: 40 << 10}}, got); diff != "" || err != nil {
		t.Errorf("%v, ranges (-want +got):\n%s", err, diff)
	}
	var out bytes.Buffer
	if err := WriteSpans(&out, &sound, table, bytes.NewReader(layer)); err != nil || !bytes.Equal(out.Bytes(), write(nil, runs)) {
		t.Errorf("WriteSpans: %v, %d bytes", err, out.Len())
	}
	if err := WriteSpans(&out, &sound, table, bytes.NewReader(layer[:100])); err == nil {
		t.Error("WriteSpans of a layer that is cut off says nothing")
	}
	spoilt := bytes.Clone(runs)
	spoilt[20<<10] ^= 1
	for name, tt := range map[string]struct {
		body []byte
		want string
	}{
		"nothing":          {nil, "does not begin as one"},
		"another file":     {layer, "does not begin as one"},
		"no end":           {write(nil, nil)[:100], "cut off"},
		"another byte":     {write(nil, spoilt), "the bytes of span 4 "},
		"cut":              {write(nil, runs[:len(runs)-1]), "the bytes of span 4 "},
		"more":             {write(nil, append(bytes.Clone(runs), 0)), "end at byte"},
		"another head":     {write(func(s *Spans) { s.Head = []byte("x") }, runs), "the first bytes"},
		"another size":     {write(func(s *Spans) { s.Size++ }, runs), "its zTOC says"},
		"a giant":          {write(func(s *Spans) { s.Size = -1 }, runs), "a layer of -1 bytes"},
		"beyond the last":  {write(func(s *Spans) { s.Runs = []SpanRun{{0, 1 << 40}} }, runs), "spans 0 to"},
		"negative":         {write(func(s *Spans) { s.Runs = []SpanRun{{-1, 1}} }, runs), "spans -1 to"},
		"backwards":        {write(func(s *Spans) { s.Runs = []SpanRun{{4, 4}, {0, 1}} }, runs), "are to rise"},
		"touching":         {write(func(s *Spans) { s.Runs = []SpanRun{{0, 1}, {2, 2}} }, runs), "are to rise"},
		"no digest":        {write(func(s *Spans) { s.Layer = "../../x" }, runs), "invalid digest"},
		"an unknown field": {[]byte(spansMagic + `{"x":1}` + "\n"), "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := verify(tt.body); !errors.Is(err, ErrBundle) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzReadSpansHead(f *testing.F) {
	layer, table := tabled(f)
	s := Spans{Layer: digest.FromBytes(layer), Size: int64(len(layer)), ZTOC: digest.FromString("z"), Head: layer[:10], Runs: RunsOf([]int{2, 3})}
	var out bytes.Buffer
	if err := WriteSpans(&out, &s, table, bytes.NewReader(layer)); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte(spansMagic + "{}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, at, err := ReadSpansHead(bytes.NewReader(body))
		if err == nil {
			var ranges []oci.Range
			ranges, err = VerifySpans(bytes.NewReader(body), int64(len(body)), at, s, table)
			for _, r := range ranges { // what was verified is the layer's
				if !bytes.Equal(body[at:at+r.Len()], layer[r.Off:r.End]) {
					t.Errorf("bytes %d to %d are others", r.Off, r.End)
				}
				at += r.Len()
			}
		}
		if err != nil && !errors.Is(err, ErrBundle) {
			t.Errorf("%v is no ErrBundle", err)
		}
	})
}

// lazyStock is a bundle's image with its one layer by spans.
func lazyStock(t testing.TB) (Image, []Blob, map[digest.Digest][]byte) {
	img, blobs, bodies := stock()
	layer := img.Blobs[1]
	spans, zTOC := []byte("spans"), []byte("ztoc")
	l := LazyLayer{Layer: layer, Size: 5000, ZTOC: digest.FromBytes(zTOC), Spans: digest.FromBytes(spans), Have: 1, Of: 2}
	img.Lazy, img.IndexBlobs = []LazyLayer{l}, []digest.Digest{l.ZTOC}
	var out []Blob
	for _, b := range blobs {
		if b.Digest != layer {
			out = append(out, b)
		}
	}
	for _, p := range [][]byte{spans, zTOC} {
		d := digest.FromBytes(p)
		bodies[d] = p
		out = append(out, Blob{Digest: d, Size: int64(len(p)), Made: true})
	}
	return img, out, bodies
}

func TestSign(t *testing.T) {
	img, blobs, bodies := lazyStock(t)
	p, err := NewPlan([]Image{img}, blobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err == nil {
		err = p.Sign(private)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = p.Write(&out, func(b Blob) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(bodies[b.Digest])), nil })
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	st, own := r.Statement()
	sig := r.Signature()
	id, err := KeyID(public)
	if err != nil || sig == nil || sig.Statement != own || sig.Key != id || st.Version != VersionLazy {
		t.Fatalf("%v, signature %+v of %s by %s, version %d", err, sig, own, id, st.Version)
	}
	if _, got, err := readAll(bytes.NewReader(out.Bytes())); err != nil || len(got) != len(blobs) {
		t.Errorf("%d blobs, %v", len(got), err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if known, err := sig.Trust(map[digest.Digest]ed25519.PublicKey{id: public}); !known || err != nil {
		t.Errorf("by its own key: %t, %v", known, err)
	}
	if known, err := sig.Trust(nil); known || err != nil {
		t.Errorf("by no key: %t, %v", known, err)
	}
	if known, err := sig.Trust(map[digest.Digest]ed25519.PublicKey{id: other}); known || !errors.Is(err, ErrSignature) {
		t.Errorf("by another key under its name: %t, %v", known, err)
	}
	sig.Statement = digest.FromString("another")
	if known, err := sig.Trust(map[digest.Digest]ed25519.PublicKey{id: public}); known || !errors.Is(err, ErrSignature) {
		t.Errorf("of another statement: %t, %v", known, err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "x", "no digests": "{}", "an unknown field": `{"x":1}`,
		"a short signature": `{"statement":"` + own.String() + `","key":"` + id.String() + `","ed25519":"AAAA"}`,
	} {
		if _, err := parseSignature([]byte(text)); !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSignature(f *testing.F) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	x, err := sign(digest.FromString("x"), private)
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(x)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := parseSignature(text)
		if err != nil {
			if !errors.Is(err, ErrBundle) {
				t.Errorf("%v is no ErrBundle", err)
			}
			return
		}
		if known, err := x.Trust(map[digest.Digest]ed25519.PublicKey{x.Key: make([]byte, ed25519.PublicKeySize)}); known || err == nil {
			t.Error("it is by a key that nobody has")
		}
	})
}

// TestLazyStatement refuses what would not start.
func TestLazyStatement(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Image)
		want   string
	}{
		"no spans":        {func(x *Image) { x.Lazy[0].Spans = digest.FromString("x") }, "the spans"},
		"a manifest":      {func(x *Image) { x.Lazy[0].Spans = x.Root.Digest }, "the spans"},
		"a config":        {func(x *Image) { x.Lazy[0].Spans = x.Blobs[0] }, "the spans"},
		"no zTOC":         {func(x *Image) { x.IndexBlobs = nil }, "the zTOC"},
		"twice":           {func(x *Image) { x.Lazy = append(x.Lazy, x.Lazy[0]) }, "listed twice"},
		"another's layer": {func(x *Image) { x.Lazy[0].Layer = digest.FromString("secret") }, "neither in it nor left out"},
		"not its own":     {func(x *Image) { l := x.Lazy[0]; l.Layer = digest.FromString("secret"); x.Lazy = append(x.Lazy, l) }, "not its own"},
		"more than all":   {func(x *Image) { x.Lazy[0].Have = 3 }, "3 of 2 spans"},
		"no index":        {func(x *Image) { x.Indexes = []Manifest{{Subject: "x"}} }, "the SOCI index"},
	} {
		t.Run(name, func(t *testing.T) {
			img, blobs, _ := lazyStock(t)
			tt.change(&img)
			if _, err := NewPlan([]Image{img}, blobs, nil); !errors.Is(err, ErrBundle) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	img, blobs, _ := lazyStock(t)
	st := Statement{Version: Version, Images: []Image{img}, Blobs: blobs}
	if err := st.check(); err == nil || !strings.Contains(err.Error(), "its version is 1") {
		t.Errorf("of the first version: %v", err)
	}
	e, err := st.Earlier("")
	if err != nil {
		t.Fatal(err)
	}
	if repo, _, err := img.Repo(); err != nil || e.Has(repo, img.Lazy[0].Layer) || !e.Has(repo, img.Blobs[0]) {
		t.Errorf("%v: an earlier bundle is said to have a layer of which it has spans, or not to have the config", err)
	}
}

func TestKeys(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	wrap := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return text("PRIVATE KEY", der, err)
	}
	show := func(key any) []byte { der, err := x509.MarshalPKIXPublicKey(key); return text("PUBLIC KEY", der, err) }
	if got, err := ParsePrivateKey(wrap(private)); err != nil || !got.Equal(private) {
		t.Errorf("a private key: %v", err)
	}
	if got, err := ParsePublicKey(show(public)); err != nil || !got.Equal(public) {
		t.Errorf("a public key: %v", err)
	}
	junk := text("PRIVATE KEY", []byte("x"), nil)
	for _, tt := range []struct {
		text    []byte
		private string
		public  string
	}{
		{nil, "no PEM", "no PEM"},
		{wrap(private), "", "has no place here"},
		{show(public), "the private one signs", ""},
		{wrap(other), "want ed25519", "has no place here"},
		{show(&other.PublicKey), "the private one signs", "want ed25519"},
		{junk, "not readable", "has no place here"},
		{text("PUBLIC KEY", []byte("x"), nil), "the private one signs", "not readable"},
		{text("ENCRYPTED PRIVATE KEY", []byte("x"), nil), "without a passphrase", "want a PUBLIC KEY"},
	} {
		_, err := ParsePrivateKey(tt.text)
		if tt.private != "" && (err == nil || !strings.Contains(err.Error(), tt.private)) {
			t.Errorf("%.40q as a private key: %v, want %q", tt.text, err, tt.private)
		}
		_, err = ParsePublicKey(tt.text)
		if tt.public != "" && (err == nil || !strings.Contains(err.Error(), tt.public)) {
			t.Errorf("%.40q as a public key: %v, want %q", tt.text, err, tt.public)
		}
	}
}
