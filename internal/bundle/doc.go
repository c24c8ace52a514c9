// Package bundle is the file in which images cross a gap: an OCI image layout in
// a tar, so that skopeo, oras and containerd read it, with a statement of what is
// in it at the front.
//
//	oci-layout              as image-spec has it
//	index.json              every image by its full reference, every referrer by its artifact type
//	sociable.json           Statement: what is here, in which order, and what was left out
//	sociable.sig.json       Signature of the statement, where it is signed
//	blobs/<algorithm>/<hex> manifests first, then the rest, each by digest
//
// The same images give the same bytes: nothing in it tells when or where it was
// made. A reader needs one pass and no memory for blobs, and knows from the
// statement what is to come before it does.
//
// A bundle comes from outside: Reader takes nothing from it but regular files
// under the names above, which the statement lists, of the sizes that it gives
// and with the digests that they are called by.
package bundle
