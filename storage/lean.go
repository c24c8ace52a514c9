package storage

import (
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// leanAbove is the size from which on a manifest's row is made lean, in bytes.
const leanAbove = 64 << 10

// readHere begin the annotations that are read out of rows.
var readHere = []string{"com.amazon.soci.", "vnd.docker.reference."}

// Lean gives the row as it is kept: of a large manifest without what nobody reads
// out of a row, which is embedded data, URLs and most annotations. The manifest's
// bytes have them. A database writes neighbours of a row with it, so that one of
// megabytes would be written with many a small one.
func (r ManifestRow) Lean() ManifestRow {
	if r.Size <= leanAbove {
		return r
	}
	m := &r.Manifest
	m.Annotations = leanAnnotations(m.Annotations)
	m.Layers, m.Manifests = leanList(m.Layers), leanList(m.Manifests)
	for _, d := range []**v1.Descriptor{&m.Config, &m.Subject} {
		if *d != nil {
			x := lean(**d)
			*d = &x
		}
	}
	return r
}

func leanList(ds []v1.Descriptor) []v1.Descriptor {
	if ds == nil {
		return nil
	}
	out := make([]v1.Descriptor, len(ds))
	for i := range ds {
		out[i] = lean(ds[i])
	}
	return out
}

func lean(d v1.Descriptor) v1.Descriptor {
	d.Data, d.URLs, d.Annotations = nil, nil, leanAnnotations(d.Annotations)
	return d
}

func leanAnnotations(all map[string]string) map[string]string {
	var out map[string]string
	for k, v := range all {
		for _, prefix := range readHere {
			if strings.HasPrefix(k, prefix) && len(v) <= 1024 {
				if out == nil {
					out = map[string]string{}
				}
				out[k] = v
			}
		}
	}
	return out
}
