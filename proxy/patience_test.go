package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// steady is a client's end that takes so many bytes a second, and gives up as a
// connection does: once a deadline is over.
type steady struct {
	http.ResponseWriter
	rate     int64
	room     int64 // that the kernel has before the client takes anything
	deadline time.Time
	got      bytes.Buffer
}

func (s *steady) SetWriteDeadline(t time.Time) error {
	s.deadline = t
	return nil
}

func (s *steady) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(&s.got, src)
	took := max(0, n-s.room)
	s.room -= min(n, s.room)
	time.Sleep(time.Duration(took * int64(time.Second) / s.rate))
	if err == nil && !s.deadline.IsZero() && time.Now().After(s.deadline) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// TestPatience has clients that go on reading, however slowly, get all of a body, and
// one that all but stops not.
func TestPatience(t *testing.T) {
	body := random(24<<20, 3)
	for _, tt := range []struct {
		rate, room int64
		all        bool
	}{
		{100 << 20, 0, true},
		{1 << 20, 4 << 20, true},
		{50_000, 0, true},
		{50_000, 4 << 20, true}, // it looks quick at first
		{10_000, 0, true},
		{5_000, 0, false},
	} {
		t.Run(fmt.Sprintf("%d a second, %d at once", tt.rate, tt.room), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &steady{rate: tt.rate, room: tt.room, deadline: time.Now().Add(clientStall)}
				n, err := newPatient(w).ReadFrom(&io.LimitedReader{R: bytes.NewReader(body), N: int64(len(body))})
				if all := err == nil && n == int64(len(body)) && bytes.Equal(w.got.Bytes(), body); all != tt.all {
					t.Errorf("%d of %d bytes, %v", n, len(body), err)
				}
			})
		})
	}
}
