package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/bundle"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// signedBy names who vouches for the bundle's spans, for those who look at rows
// later.
func signedBy(t web.BundleSigner) string {
	if !t.Trusted {
		return ""
	}
	return t.Name + " " + t.Key.String()
}

func printSigner(w io.Writer, t web.BundleSigner) {
	switch {
	case t.Trusted:
		fmt.Fprintf(w, "signed with %s, %s\n", t.Name, t.Key)
	case t.Key != "":
		fmt.Fprintf(w, "signed with a key that is not in import.trusted_keys, %s\n", t.Key)
	}
}

// judge finds out who vouches for the bundle, and refuses it where nobody trusted
// does and it has layers by their spans. Nothing was taken before.
func (x *importing) judge(sig *bundle.Signature) error {
	if sig != nil {
		t, err := x.c.Trust(x.ctx, sig)
		if err != nil {
			return err
		}
		x.trust = web.BundleSigner{Key: sig.Key, Name: t.Name, Trusted: t.Known}
	}
	if !x.st.IsLazy() {
		return nil
	}
	if !x.trust.Trusted && !x.how.TrustSpans {
		who := "it is not signed"
		if x.trust.Key != "" {
			who = "it is signed with a key that is not among them, " + x.trust.Key.String()
		}
		return fmt.Errorf("it has layers by some of their spans, which are taken only from a bundle signed with a key in import.trusted_keys: %s. "+
			"If you know where it comes from, --trust-spans takes them all the same", who)
	}
	return x.takeOver()
}

// takeOver finds what was made of layers that come by their spans, and has to be
// taken since it can't be made here.
func (x *importing) takeOver() error {
	x.made = map[digest.Digest]storage.BlobRow{oci.EmptyDigest: {Kind: storage.KindIndex}}
	for i := range x.st.Images {
		img := &x.st.Images[i]
		for _, l := range img.Lazy {
			x.made[l.Spans] = storage.BlobRow{Kind: storage.KindHot, Of: l.Layer}
			if x.made[l.ZTOC].Of == "" {
				x.made[l.ZTOC] = storage.BlobRow{Kind: storage.KindZTOC, Of: l.Layer}
			}
		}
		if len(img.Lazy) > 0 {
			for _, m := range img.Indexes {
				x.made[m.Digest] = storage.BlobRow{Kind: storage.KindIndex, Of: m.Subject}
			}
		}
	}
	for _, b := range x.st.Blobs { // nothing that an image names may come in as something made
		if row, ok := x.made[b.Digest]; ok && (b.Manifest != (row.Kind == storage.KindIndex && row.Of != "") || !b.Made && row.Of != "") {
			return errors.New(b.Digest.String() + " is said to be two kinds of things")
		}
	}
	return nil
}

// takeMade stores a zTOC, an index or spans.
func (x *importing) takeMade(b bundle.Blob, row storage.BlobRow, body io.Reader) error {
	if b.Manifest {
		p, err := io.ReadAll(body) // its size was checked
		if err != nil {
			return err
		}
		return x.c.PutIndex(x.ctx, b.Digest, row.Of, p)
	}
	row.Digest, row.Size = b.Digest, b.Size
	return x.c.PutMade(x.ctx, row, body)
}

func isLazy(img *bundle.Image, d digest.Digest) bool {
	return slices.ContainsFunc(img.Lazy, func(l bundle.LazyLayer) bool { return l.Layer == d })
}
