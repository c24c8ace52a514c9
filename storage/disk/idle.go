package disk

import (
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// maxIdle bounds the files that are open and read by nobody.
	maxIdle = 32
	// idleFor is how long one stays so; at most twice that.
	idleFor = time.Second
)

// idle keeps files that were just read open for the next reader of the same
// blob: to open one and close it again takes an eighth of what a small range
// costs. A file has one reader at a time, whose its offset is. What is removed or
// replaced under its name is let go of at once, so that nobody gets it again.
type idle struct {
	mu    sync.Mutex
	files []idleFile // last used last
	epoch uint64     // grows whenever a name goes, or comes to mean another file
	armed bool       // sweep will be called, by timer
	timer *time.Timer
	ended bool // nothing is kept open any more

	sweeps sync.WaitGroup // one while armed, and until sweep is done
}

type idleFile struct {
	d     digest.Digest
	f     File
	since time.Time
}

// take gives a file of d, or nil. epoch is for give; a caller who opens the file
// himself does so after this.
func (i *idle) take(d digest.Digest) (f File, epoch uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, x := range slices.Backward(i.files) {
		if x.d == d {
			i.files = slices.Delete(i.files, n, n+1)
			return x.f, i.epoch
		}
	}
	return nil, i.epoch
}

// give is the end of a file's use. It is closed where what its name means may
// have changed since epoch, and otherwise soon.
func (i *idle) give(d digest.Digest, f File, epoch uint64) error {
	i.mu.Lock()
	if epoch != i.epoch || i.ended {
		i.mu.Unlock()
		return f.Close()
	}
	var oldest File
	if len(i.files) == maxIdle {
		oldest = i.files[0].f
		i.files = slices.Delete(i.files, 0, 1)
	}
	i.files = append(i.files, idleFile{d, f, time.Now()})
	if !i.armed {
		i.armLocked()
	}
	i.mu.Unlock()
	if oldest != nil {
		return oldest.Close()
	}
	return nil
}

// forget is for a name that went, or means another file: called after that.
func (i *idle) forget(d digest.Digest) {
	i.mu.Lock()
	i.epoch++
	gone := i.cutLocked(func(x idleFile) bool { return x.d == d })
	i.mu.Unlock()
	closeAll(gone)
}

func (i *idle) armLocked() {
	i.armed = true
	i.sweeps.Add(1)
	i.timer = time.AfterFunc(idleFor, i.sweep)
}

// sweep closes what has been idle for long, and comes again while there is more.
func (i *idle) sweep() {
	defer i.sweeps.Done()
	now := time.Now()
	i.mu.Lock()
	old := i.cutLocked(func(x idleFile) bool { return now.Sub(x.since) >= idleFor })
	if i.armed = false; len(i.files) > 0 {
		i.armLocked()
	}
	i.mu.Unlock()
	closeAll(old)
}

// end closes what is idle, now and from now on, and waits for a sweep.
func (i *idle) end() {
	i.mu.Lock()
	i.ended = true
	all := i.cutLocked(func(idleFile) bool { return true })
	if i.armed && i.timer.Stop() {
		i.armed = false
		i.sweeps.Done()
	}
	i.mu.Unlock()
	closeAll(all)
	i.sweeps.Wait()
}

// cutLocked takes out the files that match.
func (i *idle) cutLocked(match func(idleFile) bool) (cut []idleFile) {
	i.files = slices.DeleteFunc(i.files, func(x idleFile) bool {
		if match(x) {
			cut = append(cut, x)
			return true
		}
		return false
	})
	return cut
}

func closeAll(files []idleFile) {
	for _, x := range files {
		_ = x.f.Close() // only read from
	}
}
