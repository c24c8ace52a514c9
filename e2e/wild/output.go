package wild

import (
	"bytes"
	"sync"
	"time"
)

// firstOutput keeps what is written, and when that began.
type firstOutput struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	first time.Time
}

func (o *firstOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first.IsZero() && len(p) > 0 {
		o.first = time.Now()
	}
	return o.buf.Write(p)
}

func (o *firstOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *firstOutput) at() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.first
}
