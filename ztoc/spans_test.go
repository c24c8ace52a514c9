package ztoc

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"

	"github.com/opencontainers/go-digest"
)

// someTable has three spans: [10,21), [20,30), [30,40); byte 20 is in two.
func someTable() SpanTable {
	t := SpanTable{size: 40}
	for i, off := range []int64{10, 20, 30} {
		t.add(off, i == 1)
		sum := sha256.Sum256([]byte{byte(i)})
		t.sum = append(t.sum, sum[:]...)
	}
	return t
}

func TestSpanTable(t *testing.T) {
	table := someTable()
	sum := func(i byte) digest.Digest { return digest.FromBytes([]byte{i}) }
	for i, want := range []Span{{10, 21, sum(0)}, {20, 30, sum(1)}, {30, 40, sum(2)}} {
		if got := table.Span(i); got != want {
			t.Errorf("span %d: got %v, want %v", i, got, want)
		}
	}
	if table.HeadEnd() != 10 || table.LayerSize() != 40 || table.Len() != 3 {
		t.Errorf("head ends at %d, layer has %d bytes, %d spans", table.HeadEnd(), table.LayerSize(), table.Len())
	}
	for _, tc := range []struct {
		off, end    int64
		first, last int
	}{
		{0, 10, 0, -1},
		{0, 11, 0, 0},
		{0, 40, 0, 2},
		{10, 20, 0, 0},
		{10, 21, 0, 0},
		{20, 21, 0, 0}, // the shared byte alone
		{20, 22, 1, 1},
		{19, 22, 0, 1},
		{21, 30, 1, 1},
		{30, 31, 2, 2},
		{29, 31, 1, 2},
		{39, 100, 2, 2},
		{40, 100, 0, -1},
		{15, 15, 0, -1},
		{16, 15, 0, -1},
		{-5, 100, 0, 2},
	} {
		if first, last := table.Cover(tc.off, tc.end); first != tc.first || last != tc.last {
			t.Errorf("[%d, %d): got %d to %d, want %d to %d", tc.off, tc.end, first, last, tc.first, tc.last)
		}
	}
	if first, last := (SpanTable{}).Cover(0, 10); last >= first {
		t.Errorf("empty table: %d to %d", first, last)
	}
}

func TestSpanTableBinary(t *testing.T) {
	for name, table := range map[string]SpanTable{"some": someTable(), "none": {}, "no spans": {size: 5}} {
		p, err := table.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again SpanTable
		if err := again.UnmarshalBinary(p); err != nil || again.Len() != table.Len() || again.size != table.size ||
			table.Len() > 0 && !reflect.DeepEqual(again, table) {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
		for i := range p {
			if err := again.UnmarshalBinary(p[:i]); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s cut at %d: %v", name, i, err)
			}
		}
		if err := again.UnmarshalBinary(append(p, 0)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
	sums := string(make([]byte, 64))
	for name, p := range map[string]string{
		"version":              "\x02\x05\x00",
		"starts at the end":    "\x01\x05\x01\x0a" + sums[:32],
		"starts behind":        "\x01\x05\x02\x04\x08" + sums,
		"two at one place":     "\x01\x05\x02\x04\x00" + sums,
		"first one is shared":  "\x01\x05\x01\x05" + sums[:32],
		"more than there is":   "\x01\x05\xff\xff\xff\x0f",
		"size beyond all":      "\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00",
		"distance beyond all":  "\x01\x05\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + sums[:32],
		"number without end":   "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"sum of starts wraps":  "\x01\x05\x02\x04\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" + sums,
		"digests are one less": "\x01\x05\x02\x02\x04" + sums[:32],
	} {
		if err := new(SpanTable).UnmarshalBinary([]byte(p)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzSpanTable(f *testing.F) {
	p, _ := someTable().MarshalBinary()
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		var table SpanTable
		if table.UnmarshalBinary(p) != nil {
			return
		}
		again, err := table.MarshalBinary()
		var same SpanTable
		if err != nil || same.UnmarshalBinary(again) != nil || !reflect.DeepEqual(table, same) {
			t.Fatalf("does not come back: %v", err)
		}
		last := table.HeadEnd()
		for i := range table.Len() {
			sp := table.Span(i)
			if sp.Off >= sp.End || sp.End > table.LayerSize() || sp.Off != last && sp.Off != last-1 {
				t.Fatalf("span %d is %v after %d", i, sp, last)
			}
			last = sp.End
			checkCover(t, table, sp)
		}
	})
}

// checkCover sees that each range around a span is covered by spans that hold
// it, and by no more.
func checkCover(t *testing.T, table SpanTable, sp Span) {
	for _, r := range [][2]int64{{sp.Off, sp.Off + 1}, {sp.Off, sp.End}, {sp.End - 1, sp.End}, {sp.Off - 1, sp.End + 1}} {
		first, last := table.Cover(r[0], r[1])
		from, to := max(r[0], table.HeadEnd()), min(r[1], table.LayerSize())
		a, b := table.Span(first), table.Span(last)
		if a.Off > from || b.End < to {
			t.Fatalf("%v is not covered by %d to %d", r, first, last)
		}
		if first < last && (a.End <= from || b.Off >= to || table.Span(first+1).Off <= from || table.Span(last-1).End >= to) {
			t.Fatalf("%v does not need all of %d to %d", r, first, last)
		}
	}
}

// TestTableOfBuild compares a table's digests with the layer's bytes.
func TestTableOfBuild(t *testing.T) {
	for _, v := range readVectors(t) {
		b := buildVector(t, v)
		if b == nil {
			continue
		}
		p, err := tableOf(t, b.result).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var table SpanTable
		if err := table.UnmarshalBinary(p); err != nil {
			t.Errorf("%s: %v", v.name(), err)
			continue
		}
		var all []byte
		for i := range table.Len() {
			sp := table.Span(i)
			part := b.layer[sp.Off:sp.End]
			if digest.FromBytes(part) != sp.Digest {
				t.Errorf("%s: span %d does not match its digest", v.name(), i)
			}
			all = append(all, part[int64(len(all))+table.HeadEnd()-sp.Off:]...)
		}
		if !bytes.Equal(all, b.layer[table.HeadEnd():]) {
			t.Errorf("%s: spans do not make up the layer", v.name())
		}
	}
}
