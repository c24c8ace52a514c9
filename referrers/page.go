package referrers

import (
	"encoding/json"
	"fmt"
	"slices"

	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxPageBytes is what clients read of one answer at most: the size that the
// distribution specification has registries accept for a manifest.
const maxPageBytes = 4 << 20

// pageStart is the cursor of a first page that had room for the SOCI index
// alone. It sorts before every digest.
const pageStart = "-"

// page is one answer. next is the cursor for the one behind it, "" on the last.
type page struct {
	body []byte
	next string
}

// paginate gives the page behind the cursor last, of at most limit bytes and n
// entries, n being 1 at least. The
// cursor is a digest, not a position, so that entries which come and go between
// two pages move nothing else. An entry too big for any page is left out.
func paginate(l listing, last string, limit, n int) (page, error) {
	empty, err := encode([]v1.Descriptor{})
	if err != nil {
		return page{}, err
	}
	room := limit - len(empty)
	out := []v1.Descriptor{}
	add := func(d v1.Descriptor) (fits bool, err error) {
		b, err := json.Marshal(d)
		if err != nil {
			return false, fmt.Errorf("encode descriptor %s: %w", d.Digest, err)
		}
		if len(b)+1 > limit-len(empty) {
			return true, nil
		}
		if room -= len(b) + 1; room < 0 || len(out) == n {
			return false, nil
		}
		out = append(out, d)
		return true, nil
	}
	if l.soci != nil && last == "" {
		if _, err := add(*l.soci); err != nil {
			return page{}, err
		}
	}
	var p page
	cursor := pageStart
	from := slices.IndexFunc(l.rest, func(d v1.Descriptor) bool { return d.Digest.String() > last })
	for i := from; i >= 0 && i < len(l.rest); i++ {
		fits, err := add(l.rest[i])
		if err != nil {
			return page{}, err
		}
		if !fits {
			p.next = cursor
			break
		}
		cursor = l.rest[i].Digest.String()
	}
	p.body, err = encode(out)
	return p, err
}

// encode writes an image index; its member manifests is never null.
func encode(manifests []v1.Descriptor) ([]byte, error) {
	body, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: manifests,
	})
	if err != nil {
		return nil, fmt.Errorf("encode referrers: %w", err)
	}
	return body, nil
}
