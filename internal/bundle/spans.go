package bundle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/ztoc"
)

// spansMagic begins a file of spans, so that it is no other blob's bytes.
const spansMagic = "sociable spans 1\n"

const (
	maxSpansHead = 4 << 20 // a layer's first bytes, and some 30 bytes a run
	// maxLayerHead bounds the layer's first bytes: a gzip header with a name in it.
	maxLayerHead = 1 << 20
)

// Spans is what a file of spans says at its front: which of a layer's spans
// follow. The runs' bytes come one after another, each without gaps, so that a
// byte which neighbours share is there once.
//
//	sociable spans 1\n
//	JSON of Spans\n
//	bytes of the layer: each run from the beginning of its first span to the end of its last
type Spans struct {
	Layer digest.Digest `json:"layer"`
	Size  int64         `json:"size"`           // of the layer, compressed bytes
	ZTOC  digest.Digest `json:"ztoc"`           // says where the spans are, and what their bytes hash to
	Head  []byte        `json:"head,omitempty"` // the layer's first bytes: all before span 0
	Runs  []SpanRun     `json:"runs"`           // by number; neither touching nor overlapping
}

// SpanRun is spans by their number, both inclusive.
type SpanRun struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// RunsOf joins span numbers, which rise, into runs.
func RunsOf(spans []int) (runs []SpanRun) {
	for _, i := range spans {
		if n := len(runs); n > 0 && runs[n-1].Last+1 == i {
			runs[n-1].Last = i
		} else {
			runs = append(runs, SpanRun{i, i})
		}
	}
	return runs
}

// Count is the number of spans.
func (s *Spans) Count() (n int) {
	for _, r := range s.Runs {
		n += r.Last - r.First + 1
	}
	return n
}

// Ranges gives, for each run, the bytes of the layer that it is. ErrBundle where
// the table has no such spans, or is of a layer of another size.
func (s *Spans) Ranges(table ztoc.SpanTable) ([]oci.Range, error) {
	if table.LayerSize() != s.Size || int64(len(s.Head)) > s.Size || int64(len(s.Head)) < table.HeadEnd() {
		return nil, unsound("the spans of %s are said to be of %d bytes and to begin at %d, its zTOC says %d and %d",
			s.Layer, s.Size, len(s.Head), table.LayerSize(), table.HeadEnd())
	}
	var out []oci.Range
	for i, r := range s.Runs {
		if r.First < 0 || r.Last < r.First || r.Last >= table.Len() || i > 0 && r.First <= s.Runs[i-1].Last+1 {
			return nil, unsound("spans %d to %d of %s: its zTOC has %d, and they are to rise", r.First, r.Last, s.Layer, table.Len())
		}
		out = append(out, oci.Range{Off: table.Span(r.First).Off, End: table.Span(r.Last).End})
	}
	return out, nil
}

// WriteSpans writes a file of spans, out of the layer.
func WriteSpans(w io.Writer, s *Spans, table ztoc.SpanTable, layer io.ReaderAt) error {
	ranges, err := s.Ranges(table)
	if err != nil {
		return err
	}
	head, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write spans of %s: %w", s.Layer, err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", spansMagic, head); err != nil {
		return fmt.Errorf("write spans of %s: %w", s.Layer, err)
	}
	for _, r := range ranges {
		if n, err := io.Copy(w, io.NewSectionReader(layer, r.Off, r.Len())); err != nil || n != r.Len() {
			return fmt.Errorf("write spans of %s: %w", s.Layer, errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return nil
}

// ReadSpansHead reads the front of a file of spans; at is where the bytes begin.
// ErrBundle.
func ReadSpansHead(r io.Reader) (s *Spans, at int64, err error) {
	in := bufio.NewReader(io.LimitReader(r, maxSpansHead))
	magic := make([]byte, len(spansMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != spansMagic {
		return nil, 0, unsound("a file of spans does not begin as one")
	}
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, 0, unsound("the front of a file of spans is cut off, or longer than %d bytes", maxSpansHead)
	}
	s = new(Spans)
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, 0, unsound("the front of a file of spans: %v", err)
	}
	for _, x := range []digest.Digest{s.Layer, s.ZTOC} {
		if _, err := oci.ParseDigest(x.String()); err != nil {
			return nil, 0, unsound("the front of a file of spans: %v", err)
		}
	}
	if s.Size < 0 || len(s.Head) > maxLayerHead {
		return nil, 0, unsound("spans of %s: a layer of %d bytes that begins with %d", s.Layer, s.Size, len(s.Head))
	}
	return s, int64(len(spansMagic) + len(line)), nil
}

// VerifySpans compares every span in a file of size bytes with its digest in the
// zTOC's table, and the head as far as a span holds it, too. It gives the bytes of
// the layer that each run is; they stand one after another from at on. ErrBundle.
func VerifySpans(r io.ReaderAt, size, at int64, s *Spans, table ztoc.SpanTable) ([]oci.Range, error) {
	ranges, err := s.Ranges(table)
	if err != nil {
		return nil, err
	}
	for i, run := range s.Runs {
		for n := run.First; n <= run.Last; n++ {
			sp := table.Span(n)
			v := sp.Digest.Verifier()
			got, err := io.Copy(v, io.NewSectionReader(r, at+sp.Off-ranges[i].Off, sp.End-sp.Off))
			if err != nil {
				return nil, fmt.Errorf("read span %d of %s: %w", n, s.Layer, err)
			}
			if got != sp.End-sp.Off || !v.Verified() {
				return nil, unsound("the bytes of span %d of %s are others than its zTOC says", n, s.Layer)
			}
		}
		if err := s.compareHead(r, at, ranges[i]); err != nil {
			return nil, err
		}
		at += ranges[i].Len()
	}
	if at != size {
		return nil, unsound("the spans of %s end at byte %d of a file of %d", s.Layer, at, size)
	}
	return ranges, nil
}

// compareHead compares as much of the head as a run holds.
func (s *Spans) compareHead(r io.ReaderAt, at int64, run oci.Range) error {
	n := min(int64(len(s.Head)), run.End) - run.Off
	if n <= 0 {
		return nil
	}
	have := make([]byte, n)
	if _, err := r.ReadAt(have, at); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read spans of %s: %w", s.Layer, err)
	}
	if !bytes.Equal(have, s.Head[run.Off:run.Off+n]) {
		return unsound("the first bytes of %s are others than its spans say", s.Layer)
	}
	return nil
}
