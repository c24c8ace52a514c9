package ztoc

import (
	"sync"
	"sync/atomic"

	"github.com/sociable/sociable/ztoc/internal/inflate"
)

const (
	inputSize  = 256 << 10 // compressed bytes that are decoded at once
	outputSize = 256 << 10 // bytes of output that are handed on at once
	maxMarks   = 4096      // member boundaries in one output buffer

	// A belt has one parcel that is filled, one that waits and one that is worked
	// on. Where two spans are hashed at once, more may wait: the second begins
	// when the first has arrived, and by then that is to be waiting in part.
	beltParcels = 3
	moreParcels = 8
)

// parcel is a buffer on its way from the decoder to those who must see each
// byte but need not decode, who give it back when they are done with it.
type parcel struct {
	buf   []byte
	n     int    // compressed bytes are buf[:n], output is buf[inflate.Window:n]
	cuts  []cut  // in compressed bytes: where spans begin, perhaps a byte behind n
	marks []mark // in output; rises
	users atomic.Int32
}

// Parcels outlive their builder, for the next one: a layer costs a few MiB of
// them, and a server that indexes many would leave that to the collector each time.
var inputs, outputs = parcels(inputSize + inflate.SrcSlack), parcels(inflate.Window + outputSize + inflate.DstSlack)

func parcels(size int) *sync.Pool {
	return &sync.Pool{New: func() any { return &parcel{buf: make([]byte, size)} }}
}

// belt carries parcels to goroutines, each of which gets all, and back.
type belt struct {
	from       *sync.Pool
	made, most int // parcels
	work       []chan *parcel
	free       chan *parcel
}

func newBelt(from *sync.Pool, most, users int) *belt {
	b := &belt{from: from, most: most, free: make(chan *parcel, most)}
	for range users {
		b.work = append(b.work, make(chan *parcel, most))
	}
	return b
}

// take takes an empty parcel. One more comes into use only where all others are
// under way.
func (b *belt) take() (p *parcel) {
	select {
	case p = <-b.free:
	default:
		if b.made < b.most {
			b.made++
			p = b.from.Get().(*parcel)
		} else {
			p = <-b.free
		}
	}
	p.cuts, p.marks = keepSmall(p.cuts), p.marks[:0]
	return p
}

// keepSmall empties a list, which goes if it has been a long one.
func keepSmall(cuts []cut) []cut {
	if cap(cuts) > maxMarks {
		return nil
	}
	return cuts[:0]
}

// give hands a parcel to all.
func (b *belt) give(p *parcel) {
	p.users.Store(int32(len(b.work)))
	for _, w := range b.work {
		w <- p
	}
}

// each gives the parcels for user i to fn until there are no more.
func (b *belt) each(i int, fn func(*parcel)) {
	for p := range b.work[i] {
		fn(p)
		if p.users.Add(-1) == 0 {
			b.free <- p
		}
	}
}

// end says that there are no more.
func (b *belt) end() {
	for _, w := range b.work {
		close(w)
	}
}

// recycle leaves the parcels to other builders, when nobody uses them any more.
func (b *belt) recycle() {
	for {
		select {
		case p := <-b.free:
			b.from.Put(p)
		default:
			return
		}
	}
}
