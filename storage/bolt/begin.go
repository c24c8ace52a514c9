package bolt

import (
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
)

// beginner begins transactions, one at a time: where bbolt panics while one that
// reads begins, it keeps the locks that all others take, and none may wait for them.
type beginner struct {
	db   *bbolt.DB
	path string
	mu   sync.Mutex
	// lost is why no transaction begins any more, or ends: to end one takes the same
	// locks.
	lost atomic.Pointer[error]
}

// begin is bbolt's, with an error in place of its panics. Faults have to be panics.
func (b *beginner) begin(writable bool) (t *bbolt.Tx, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.lost.Load(); err != nil {
		return nil, *err
	}
	defer func() {
		if r := recover(); r != nil {
			bad := recovered(b.path, r)
			t, err = nil, bad
			if !writable {
				b.lost.Store(&bad)
			}
		}
	}()
	if t, err = b.db.Begin(writable); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return t, nil
}

// end ends t without a trace. It takes no lock of its own: begin may hold that until
// transactions have ended.
func (b *beginner) end(t *bbolt.Tx) {
	if b.lost.Load() == nil {
		_ = t.Rollback() // fails only for a transaction that is over
	}
}
