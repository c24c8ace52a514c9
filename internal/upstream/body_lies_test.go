package upstream

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/sociable/sociable/internal/oci"
)

// TestBodyNeverLies reads from an upstream that does something else at each
// request: what is read is right, or the read fails.
func TestBodyNeverLies(t *testing.T) {
	data := randomBytes(faultySize)
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		f := func(w http.ResponseWriter, r *http.Request, data []byte, n int) {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)+1))
			off, end := asked(r, len(data))
			switch k := rnd.IntN(12); k {
			case 0, 1, 2:
				cut(w, r, data, 1+rnd.IntN(len(data)))
			case 3:
				whole(&cutWriter{w, 1 + rnd.IntN(len(data))}, data, rnd.IntN(2) == 0)
			case 4:
				whole(w, data, rnd.IntN(2) == 0)
			case 5: // wrong bytes, rightly labelled as others
				o := rnd.IntN(off + 1)
				partial(w, data[o:end], oci.Range{Off: int64(o), End: int64(end)}.ContentRange(faultySize))
			case 6:
				e := off + rnd.IntN(end-off+1)
				partial(w, data[off:e], oci.Range{Off: int64(off), End: int64(end)}.ContentRange(faultySize))
			case 7:
				refuse(w, 500+rnd.IntN(5), "UNAVAILABLE", "")
			case 8:
				w.Header().Set("Content-Range", "bytes */*")
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			case 9:
				panic(http.ErrAbortHandler)
			default:
				proper(w, r, data)
			}
		}
		reg := faultyRegistry(t, data, f)
		c := newClient(t, reg.URL)
		r := oci.Range{Off: rnd.Int64N(faultySize), End: -1}
		if rnd.IntN(2) == 0 {
			r.End = r.Off + 1 + rnd.Int64N(faultySize-r.Off)
		}
		want := data[r.Off:]
		if r.End >= 0 {
			want = data[r.Off:r.End]
		}
		got, err := readBlob(t, c, reg.addBlob(data), r)
		if err == nil && !bytes.Equal(got, want) || err != nil && !bytes.HasPrefix(want, got) {
			t.Errorf("seed %d: got %d bytes of %v and %v, not what they should be", seed, len(got), r, err)
		}
		reg.Close()
	}
}
