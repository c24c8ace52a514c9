package proxy

import "errors"

// errPurged ends readers that only care for a blob that is kept.
var errPurged = errors.New("the blob was purged as it came")

// purged detaches the fill: an operator wants gone what it has. Clients that are being
// sent it have the rest by it, and by one request; it goes on for as long as there is
// one of them, nothing of it is kept, and whoever comes from now on begins anew.
func (f *fill) purged() {
	f.forget()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.detached = true
	if f.refs == 0 {
		f.stopLocked()
	}
	f.changedLocked()
}
