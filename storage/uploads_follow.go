package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// followIdle is how long who follows an upload waits for its next byte: a
// client may go on in a week, or never.
const followIdle = time.Minute

var (
	errUploadOver  = errors.New("the upload was given up")
	errUploadStood = errors.New("the upload stands still")
	errUnfollowed  = errors.New("the reader was closed")
)

// Follow gives the upload's bytes from the first as they come, and io.EOF only
// once they were found to match a digest. Any other error means that this did
// not come to pass, or not soon. Close may be called while Read waits, and makes
// it return. The caller has the upload, and may release it.
func (u *Upload) Follow(ctx context.Context) (io.ReadCloser, error) {
	if u.stateNow() == uploadOver {
		return nil, fmt.Errorf("upload %s: %w", u.id, errUploadOver)
	}
	file, err := u.use(ctx)
	if err != nil {
		return nil, err
	}
	return &follower{u: u, file: file, closed: make(chan struct{})}, nil
}

type follower struct {
	u      *Upload
	file   *uploadFile
	off    int64
	closed chan struct{}
	once   sync.Once
}

func (f *follower) Read(p []byte) (int, error) {
	n, err := f.await()
	if err != nil {
		return 0, err
	}
	n, err = readSome(f.file, p, f.off, n)
	f.off += n
	return int(n), err
}

// readSome reads up to n bytes at off, all of which are there.
func readSome(f io.ReaderAt, p []byte, off, n int64) (int64, error) {
	got, err := f.ReadAt(p[:min(int64(len(p)), n)], off)
	if errors.Is(err, io.EOF) {
		if err = nil; got == 0 && len(p) > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return int64(got), err
}

// await gives how many bytes there are behind f.off, at least one.
func (f *follower) await() (int64, error) {
	var late <-chan time.Time
	for {
		f.u.mu.Lock()
		n, state, news, lost := f.u.size-f.off, f.u.state, f.u.news, f.u.file != f.file
		f.u.mu.Unlock()
		switch {
		case state == uploadOver || lost:
			return 0, errUploadOver
		case n > 0:
			return n, nil
		case state == uploadMatched:
			return 0, io.EOF
		}
		if late == nil {
			t := time.NewTimer(followIdle)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-news:
		case <-late:
			return 0, errUploadStood
		case <-f.closed:
			return 0, errUnfollowed
		}
	}
}

func (f *follower) Close() error {
	f.once.Do(func() {
		close(f.closed)
		f.u.closeFile(f.file)
	})
	return nil
}
