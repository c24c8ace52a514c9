// Package realimage makes container images of real files: a Debian root file
// system and language tool chains, straight from Debian's packages, some tens
// of thousands of files in several layers. It runs unprivileged: packages are
// resolved and fetched by apt with folders of its own, their files go from
// dpkg-deb's tar stream into the layer's without touching the disk, so owners
// and modes are those of the package.
//
// The same package versions give the same digests: entries are in the order of
// package names, times are the packages' own. What was made is kept in an OCI
// image layout, so that only the first run takes minutes.
//
// Beside the good images there is one of layers that an indexer must survive:
// see BadLayers.
package realimage
