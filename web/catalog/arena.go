package catalog

import "bytes"

// arena keeps the texts of rows. It is a few large slices of bytes, in which the
// garbage collector has nothing to look for: 100,000 images as Go values have a
// million pointers, and to follow those again and again cost those who pull more
// than the dashboard is worth.
type arena struct {
	chunks [][]byte
	used   int // bytes of texts that rows have
	filled int // bytes of all that was put
}

const chunkSize = 1 << 20

// place is where a text is.
type place struct{ chunk, off, size uint32 }

func (a *arena) put(text []byte) place {
	last := len(a.chunks) - 1
	if last < 0 || len(a.chunks[last])+len(text) > cap(a.chunks[last]) {
		a.chunks = append(a.chunks, make([]byte, 0, max(chunkSize, len(text))))
		last++
	}
	c := a.chunks[last]
	p := place{uint32(last), uint32(len(c)), uint32(len(text))}
	a.chunks[last] = append(c, text...)
	a.used, a.filled = a.used+len(text), a.filled+len(text)
	return p
}

func (a *arena) text(p place) []byte { return a.chunks[p.chunk][p.off : p.off+p.size : p.off+p.size] }

func (a *arena) drop(p place) { a.used -= int(p.size) }

// wasted reports whether most of it is texts that nobody has any more.
func (a *arena) wasted() bool { return a.filled > 2*a.used+4*chunkSize }

// words are what a row says of one image in letters. ends are where each part of
// the text ends:
//
//	repository | : first tag | further tags, each after " :" | " " platform | the same in lower case, where that differs
//	| repository@, where there is no tag | manifest | index
type words struct {
	place
	ends [parts]uint32
}

const (
	endRepository = iota
	endFirst      // of the reference, where there are tags
	endTags
	endNames
	endLower
	endAt
	endManifest
	parts
)

func (w *words) part(text []byte, from, to int) []byte { return text[w.ends[from]:w.ends[to]] }

// encode appends the text of x to b, and gives where its parts end.
func encode(b []byte, x *Image) ([]byte, [parts]uint32) {
	var ends [parts]uint32
	end := func(part int) { ends[part] = uint32(len(b)) }
	b = append(b, x.Repository...)
	end(endRepository)
	for i, t := range x.Tags {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, ':'), t...)
		if i == 0 {
			end(endFirst)
		}
	}
	if len(x.Tags) == 0 {
		end(endFirst)
	}
	end(endTags)
	b = append(append(b, ' '), x.Platform...)
	end(endNames)
	if lower := bytes.ToLower(b); !bytes.Equal(lower, b) {
		b = append(b, lower...)
	}
	end(endLower)
	if len(x.Tags) == 0 && x.Repository != "" {
		b = append(append(b, x.Repository...), '@')
	}
	end(endAt)
	b = append(b, x.Manifest...)
	end(endManifest)
	return append(b, x.Index...), ends
}

// reference is the canonical one.
func (w *words) reference(text []byte) []byte {
	if w.ends[endFirst] > w.ends[endRepository] {
		return text[:w.ends[endFirst]]
	}
	return w.part(text, endLower, endManifest)
}

func (w *words) platform(text []byte) []byte { return w.part(text, endTags, endNames)[1:] }

func (w *words) manifest(text []byte) []byte { return w.part(text, endAt, endManifest) }

func (w *words) index(text []byte) []byte { return text[w.ends[endManifest]:] }

// names are what is searched, in lower case.
func (w *words) names(text []byte) []byte {
	if w.ends[endLower] > w.ends[endNames] {
		return w.part(text, endNames, endLower)
	}
	return text[:w.ends[endNames]]
}

func (w *words) tags(text []byte) (tags []string) {
	list := w.part(text, endRepository, endTags)
	if len(list) == 0 {
		return nil
	}
	for t := range bytes.SplitSeq(list[1:], []byte(" :")) {
		tags = append(tags, string(t))
	}
	return tags
}
