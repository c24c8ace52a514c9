// Package wild runs containers through sociable as nodes do: containerd, runc
// and the real soci-snapshotter, which mounts layers by FUSE, with an image of
// real files of over 500 MB. It needs root, /dev/fuse and a kernel with overlay,
// and is a module of its own, so that nothing else is built with what it takes:
//
//	make wild                                        # from the root: everything
//	cd e2e/wild && go test -count 1 -v -run TestLazy .
//
// Everything runs in a mount namespace of its own, with its state in temporary
// folders.
package wild
