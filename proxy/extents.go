package proxy

import "github.com/sociable/sociable/internal/oci"

// extents are where a fill's bytes are, or come from. Each byte is in one of them at
// most.
type extents struct {
	have   oci.Extents
	busy   oci.Extents // claimed by a transfer
	wanted oci.Extents // to be claimed
}

// claim takes the bytes of r that nobody has or brings; only the first run of
// them, so that the caller goes on behind it. state says what is at r.Off.
func (f *fill) claim(r oci.Range) (got oci.Range, state claimState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := f.have.At(r.Off); end > r.Off {
		return oci.Range{Off: r.Off, End: min(end, r.End)}, claimHave
	}
	if end := f.busy.At(r.Off); end > r.Off {
		return oci.Range{Off: r.Off, End: min(end, r.End)}, claimBusy
	}
	got = oci.Range{Off: r.Off, End: min(f.have.Next(r.Off, r.End), f.busy.Next(r.Off, r.End))}
	f.busy.Add(got)
	f.wanted.Sub(got)
	return got, claimOurs
}

type claimState int

const (
	claimOurs claimState = iota // claimed: write it, then landed
	claimHave                   // in the file
	claimBusy                   // another transfer brings it: wait
)

// landed turns claimed bytes into bytes that readers may have.
func (f *fill) landed(r oci.Range) {
	f.mu.Lock()
	f.busy.Sub(r)
	f.have.Add(r)
	f.changedLocked()
	f.mu.Unlock()
}

// unclaim gives up claimed bytes that did not come.
func (f *fill) unclaim(r oci.Range) {
	f.mu.Lock()
	f.busy.Sub(r)
	f.changedLocked()
	f.mu.Unlock()
}
