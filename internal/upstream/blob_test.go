package upstream

import (
	"bytes"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

func TestBlob(t *testing.T) {
	reg := newRegistry(t)
	data := randomBytes(300_000)
	d := reg.addBlob(data)
	c := newClient(t, reg.URL)
	n := int64(len(data))
	for _, tc := range []struct {
		name        string
		ask, expect oci.Range
	}{
		{"whole", oci.Range{Off: 0, End: -1}, oci.Range{Off: 0, End: n}},
		{"open end", oci.Range{Off: 7, End: -1}, oci.Range{Off: 7, End: n}},
		{"first byte", oci.Range{Off: 0, End: 1}, oci.Range{Off: 0, End: 1}},
		{"middle", oci.Range{Off: 1000, End: 200_001}, oci.Range{Off: 1000, End: 200_001}},
		{"last byte", oci.Range{Off: n - 1, End: n}, oci.Range{Off: n - 1, End: n}},
		{"beyond the end", oci.Range{Off: n - 10, End: n + 10}, oci.Range{Off: n - 10, End: n}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := c.Blob(t.Context(), repo, d, tc.ask)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if b.Size() != n || b.Range() != tc.expect {
				t.Errorf("got size %d, range %v; want %d, %v", b.Size(), b.Range(), n, tc.expect)
			}
			got, err := readBlob(t, c, d, tc.ask)
			if err != nil || !bytes.Equal(got, data[tc.expect.Off:tc.expect.End]) {
				t.Errorf("got %d bytes and %v, want the %d of %v", len(got), err, tc.expect.Len(), tc.expect)
			}
		})
	}
}
