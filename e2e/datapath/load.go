package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// loadSpec is what the process "datapath load" is given on its standard input.
type loadSpec struct {
	Addr    string
	Path    string
	Accept  string
	Clients int
	Seconds float64 // each client begins no request after that
	Count   int     // or: so many requests in all, if Seconds is 0
	Range   int64   // so many bytes from a random place; 0: the whole
	Status  int     // that every answer must have
	File    string  // what the body must be
	Check   int     // every so many answers are compared with File; the others are counted
	PID     int     // of the server, for its processor time
}

// loadResult is what it writes to its standard output.
type loadResult struct {
	Requests  int
	Compared  int
	Bytes     int64
	Seconds   float64
	P50, P99  float64 // seconds from sending the request to the last byte
	Processor float64 // the server's, in seconds

	others float64 // share of the machine that other programs had meanwhile
}

func (r loadResult) perSecond() float64 { return float64(r.Requests) / r.Seconds }
func (r loadResult) mibPerSecond() float64 {
	return float64(r.Bytes) / (1 << 20) / r.Seconds
}

// perGiB is the server's processor time for a GiB of bodies.
func (r loadResult) perGiB() float64 { return r.Processor / (float64(r.Bytes) / (1 << 30)) }

// perRequest is the server's processor time for one request.
func (r loadResult) perRequest() float64 { return r.Processor / float64(r.Requests) }

// generateLoad is the process "datapath load".
func generateLoad(in io.Reader, out io.Writer) error {
	var spec loadSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("what load to make: %w", err)
	}
	r, err := spec.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// loader is one client in a closed loop.
type loader struct {
	*loadSpec
	original []byte
	rnd      *rand.Rand
	conn     *conn
	buf      []byte
	left     int // requests, if Seconds is 0
	turn     int // which of Check answers is compared

	requests int
	compared int
	took     []time.Duration // of those that were not compared, which takes the client longer
	bytes    int64
}

func (s *loadSpec) run() (loadResult, error) {
	original, err := mapFile(s.File)
	if err != nil {
		return loadResult{}, err
	}
	var loaders []*loader
	for i := range s.Clients {
		c, err := dial(s.Addr)
		if err != nil {
			return loadResult{}, err
		}
		defer c.tcp.Close()
		n := s.Count / s.Clients
		if i < s.Count%s.Clients {
			n++
		}
		loaders = append(loaders, &loader{
			loadSpec: s, original: original, conn: c, left: n, turn: i % s.Check,
			rnd: rand.New(rand.NewPCG(uint64(i), 7)), buf: make([]byte, 256<<10),
		})
	}
	before, err := processorSeconds(s.PID)
	if err != nil {
		return loadResult{}, err
	}
	start := time.Now()
	errs := make([]error, len(loaders))
	var wg sync.WaitGroup
	for i, l := range loaders {
		wg.Go(func() { errs[i] = l.loop(start) })
	}
	wg.Wait()
	r := loadResult{Seconds: time.Since(start).Seconds()}
	after, err := processorSeconds(s.PID)
	if err != nil {
		return r, err
	}
	r.Processor = after - before
	var took []time.Duration
	for i, l := range loaders {
		if errs[i] != nil {
			return r, fmt.Errorf("client %d, request %d: %w", i, l.requests, errs[i])
		}
		took = append(took, l.took...)
		r.Requests += l.requests
		r.Bytes += l.bytes
		r.Compared += l.compared
	}
	if len(took) == 0 {
		return r, errors.New("too few requests to tell how long they take")
	}
	slices.Sort(took)
	r.P50, r.P99 = took[len(took)/2].Seconds(), took[len(took)*99/100].Seconds()
	return r, nil
}

func (l *loader) loop(start time.Time) error {
	for {
		if l.Seconds > 0 && time.Since(start).Seconds() >= l.Seconds {
			return nil
		}
		if l.Seconds == 0 {
			if l.left == 0 {
				return nil
			}
			l.left--
		}
		if err := l.once(); err != nil {
			return err
		}
	}
}

// once makes a request and takes its answer.
func (l *loader) once() error {
	want := l.original
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", l.Path, l.Addr)
	if l.Accept != "" {
		fmt.Fprintf(&b, "Accept: %s\r\n", l.Accept)
	}
	if l.Range > 0 {
		off := l.rnd.Int64N(int64(len(l.original)) - l.Range)
		want = want[off : off+l.Range]
		fmt.Fprintf(&b, "Range: bytes=%d-%d\r\n", off, off+l.Range-1)
	}
	b.WriteString("\r\n")
	start := time.Now()
	h, err := l.conn.ask(b.Bytes())
	if err != nil {
		return err
	}
	if h.status != l.Status || h.length != int64(len(want)) {
		return fmt.Errorf("status %d with %d bytes, want %d with %d", h.status, h.length, l.Status, len(want))
	}
	compared := l.requests%l.Check == l.turn
	if compared {
		l.compared++
		err = l.conn.compare(want, l.buf)
	} else {
		err = l.conn.drop(h.length, l.buf)
	}
	if err != nil {
		return err
	}
	if !compared || l.Check == 1 {
		l.took = append(l.took, time.Since(start))
	}
	l.requests++
	l.bytes += h.length
	if h.close {
		return l.again()
	}
	return nil
}

// again is a new connection, where the server ended the old one.
func (l *loader) again() error {
	l.conn.tcp.Close()
	c, err := dial(l.Addr)
	if err != nil {
		return err
	}
	l.conn = c
	return nil
}

// mapFile gives a file's bytes out of the page cache.
func mapFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return p, nil
}
