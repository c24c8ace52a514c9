package storage

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/ztoc"
)

// CheckOptions say how to check a store.
type CheckOptions struct {
	// Repair mends what can be mended: wrong bytes are quarantined and their
	// rows deleted, right bytes without a row get one, rows that contradict
	// each other are made to agree or are deleted.
	Repair bool
	// BytesPerSecond bounds the reading. 0: as fast as it goes, one file at a
	// time.
	BytesPerSecond int64
	// Found is called for each problem, Progress about every second; both may
	// be nil, and neither may call the Store.
	Found    func(Problem)
	Progress func(CheckProgress)
}

// ProblemKind is what is wrong.
type ProblemKind string

// What a check may find.
const (
	ProblemCorrupt  ProblemKind = "corrupt"  // a blob's bytes are not its digest's
	ProblemMissing  ProblemKind = "missing"  // a row without its bytes
	ProblemUnfiled  ProblemKind = "unfiled"  // right bytes without a row, as a crash leaves them
	ProblemGarbage  ProblemKind = "garbage"  // wrong bytes without a row, as a crash leaves them
	ProblemPartial  ProblemKind = "partial"  // a partial has less than its row says
	ProblemLeftover ProblemKind = "leftover" // a file of a partial or an upload without a row, as a crash leaves them
	ProblemZTOC     ProblemKind = "ztoc"     // an indexed layer without a usable zTOC
	ProblemSpans    ProblemKind = "spans"    // a span table that is not its zTOC's
	ProblemManifest ProblemKind = "manifest" // a manifest's row without its bytes
	ProblemImage    ProblemKind = "image"    // an image's index is not here, or not listed
	ProblemLost     ProblemKind = "lost"     // what was pushed, or a part of it, is not here: nothing but a push mends it
	ProblemReferrer ProblemKind = "referrer" // a list names an index that is not here
	ProblemRow      ProblemKind = "row"      // a row that can't be read
)

// Problem is one thing that is wrong.
type Problem struct {
	Kind     ProblemKind   `json:"kind"`
	Digest   digest.Digest `json:"digest"`
	Detail   string        `json:"detail"`
	Repaired bool          `json:"repaired"`
	// Leftover says that nothing is wrong with what is stored: a crash left a file
	// that no row speaks of, which a running server removes.
	Leftover bool `json:"leftover,omitempty"`
}

// CheckProgress is how far a check has come.
type CheckProgress struct {
	Blobs   int64 `json:"blobs"` // read
	OfBlobs int64 `json:"of_blobs"`
	Bytes   int64 `json:"bytes"`
	OfBytes int64 `json:"of_bytes"`
}

// CheckReport is what came of a check.
type CheckReport struct {
	Blobs    int64 `json:"blobs"` // read, with or without a row
	Bytes    int64 `json:"bytes"`
	Layers   int64 `json:"layers"` // whose span tables were compared
	Problems int64 `json:"problems"`
	Repaired int64 `json:"repaired"` // of Problems
	// Leftovers are no problems, see Problem.Leftover.
	Leftovers int64         `json:"leftovers"`
	Took      time.Duration `json:"took_ns"`
}

// Check reads every blob and compares it with its digest, and the rows with the
// bytes and with each other. It goes on while the store is used. A blob that is
// found to be wrong is not served from that moment on, even where it is not to
// be repaired: whoever wants it next finds it absent. ErrBusy while another
// check runs; when ctx ends its cause is returned, with what was found so far.
func (s *Store) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	select {
	case s.checking <- struct{}{}:
	default:
		return CheckReport{}, fmt.Errorf("check the store: it is %w by another check: begin this one when that has ended", ErrBusy)
	}
	defer func() { <-s.checking }()
	if err := s.count(ctx); err != nil {
		return CheckReport{}, err
	}
	usage := s.Usage()
	c := &check{s: s, o: o, start: time.Now(), buf: make([]byte, 1<<20)}
	for _, k := range allKinds {
		c.progress.OfBlobs += usage.Blobs[k]
		c.progress.OfBytes += usage.Bytes[k]
	}
	var err error
	for _, part := range []func(context.Context) error{
		c.unreadableFiles, c.blobs, c.files, c.unreadableBlobs, c.partials, c.unreadableRows, c.kinds, c.layers, c.manifests, c.lists, c.lost,
	} {
		if err = part(ctx); err != nil {
			break
		}
	}
	c.report.Blobs, c.report.Bytes = c.progress.Blobs, c.progress.Bytes
	c.report.Took = time.Since(c.start)
	if err != nil {
		return c.report, fmt.Errorf("check the store: %w", err)
	}
	return c.report, nil
}

// check is one run of Check.
type check struct {
	s        *Store
	o        CheckOptions
	start    time.Time
	told     time.Time // when progress was last told
	buf      []byte
	progress CheckProgress
	report   CheckReport
	unfiled  []unfiled
	badBlobs []UnreadableRow // rows of blobs, until they are named
}

// found reports a problem, after mend, which may be nil where nothing can be
// done, had its chance.
func (c *check) found(ctx context.Context, kind ProblemKind, d digest.Digest, mend func() error, format string, args ...any) error {
	return c.tellOf(ctx, Problem{Kind: kind, Digest: d, Detail: fmt.Sprintf(format, args...)}, mend)
}

// left reports a leftover.
func (c *check) left(ctx context.Context, kind ProblemKind, d digest.Digest, mend func() error, format string, args ...any) error {
	return c.tellOf(ctx, Problem{Kind: kind, Digest: d, Leftover: true, Detail: fmt.Sprintf(format, args...)}, mend)
}

func (c *check) tellOf(ctx context.Context, p Problem, mend func() error) error {
	if c.o.Repair && mend != nil {
		if err := mend(); err != nil {
			return fmt.Errorf("repair %s %s: %w", p.Kind, p.Digest, err)
		}
		p.Repaired = true
	}
	level, text := slog.LevelWarn, "check found a problem"
	switch {
	case p.Leftover:
		c.report.Leftovers++
		level, text = slog.LevelInfo, "check found a leftover"
	case p.Repaired:
		c.report.Repaired++
		fallthrough
	default:
		c.report.Problems++
	}
	c.s.log.Log(ctx, level, text, "kind", string(p.Kind), "digest", p.Digest, "what", p.Detail, "repaired", p.Repaired) //nolint:sloglint // one of two constants
	if c.o.Found != nil {
		c.o.Found(p)
	}
	return nil
}

// page is how many rows are read at once: a View that is open for long keeps
// the rows' file from reusing space.
const page = 1024

// blobs compares each blob that has a row with its digest.
func (c *check) blobs(ctx context.Context) error {
	var last digest.Digest
	for {
		var rows []BlobRow
		err := c.s.meta.View(ctx, func(tx Tx) error {
			rows = rows[:0]
			next := func(row BlobRow) error {
				if rows = append(rows, row); len(rows) == page {
					return errPage
				}
				return nil
			}
			if last == "" {
				return tx.Blobs(next)
			}
			return tx.BlobsAfter(last, next)
		})
		if err != nil && !errors.Is(err, errPage) {
			return fmt.Errorf("read rows of blobs: %w", err)
		}
		for i := range rows {
			if err := c.blob(ctx, rows[i]); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
		last = rows[page-1].Digest
	}
}

var errPage = errors.New("page is full")

// renewer is a Blobs that may keep a blob open for its next reader. Renew has
// the next Open find what has its name by then.
type renewer interface{ Renew(d digest.Digest) }

// blob compares one blob that has a row. It is open meanwhile, so it stays.
func (c *check) blob(ctx context.Context, row BlobRow) error {
	o := c.s.digests.opened(row.Digest)
	defer c.s.closed(o)
	if fresh, ok := c.s.blobs.(renewer); ok {
		fresh.Renew(row.Digest)
	}
	b, is, err := c.s.openRow(ctx, row.Digest)
	if errors.Is(err, errMissized) {
		if told, err := c.missized(ctx, row.Digest); told || err != nil {
			return err
		}
	}
	if err != nil {
		return c.unsound(ctx, row.Digest, nil)
	}
	got, err := c.digest(ctx, b, row.Digest.Algorithm())
	var parse error
	if is.Kind == KindZTOC && got == row.Digest {
		_, parse = ztoc.Parse(b, b.Size())
	}
	if cerr := b.Close(); err == nil {
		err = cerr
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return c.unsound(ctx, row.Digest, fmt.Errorf("its bytes can't be read: %w", err))
	case got != row.Digest:
		return c.unsound(ctx, row.Digest, errors.New("its bytes are not what its name says"))
	case parse != nil:
		return c.noZTOC(ctx, is, parse)
	}
	return nil
}

// unsound looks again at a blob where nobody changes it: damaged in a way that needs
// no reading, or, where wrong says that its bytes were found to be others, by reading
// what has its name by now, as fast as that goes. If it is still damaged it is
// withdrawn from service, and quarantined where it is to be repaired.
func (c *check) unsound(ctx context.Context, d digest.Digest, wrong error) error {
	e, err := c.s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	kind := ProblemCorrupt
	b, _, err := c.s.openRow(ctx, d)
	switch {
	case err == nil:
		if err = b.Close(); err == nil && wrong != nil {
			var still error
			if still, err = c.s.stillWrong(ctx, d); still == nil { // it was pushed again
				wrong = nil
			}
		}
	case errors.Is(err, errDamaged):
		if wrong = err; errors.Is(err, ErrNotFound) {
			kind = ProblemMissing
		}
		err = nil
	case errors.Is(err, ErrNotFound): // gone since
		wrong, err = nil, nil
	}
	bad := err == nil && wrong != nil
	if bad {
		c.s.digests.setBad(e, true)
		c.s.metrics.failed(opCheck)
	}
	c.s.digests.unlock(e)
	if !bad {
		return err
	}
	hosted, err := c.s.hostedBlob(ctx, d)
	if err != nil {
		return err
	}
	aside := func() error { return c.s.quarantine(ctx, d) }
	if !hosted {
		return c.found(ctx, kind, d, aside, "%s", wrong)
	}
	if c.o.Repair { // which mends nothing: only a push brings it back
		if err := aside(); err != nil {
			return fmt.Errorf("put aside %s: %w", d, err)
		}
	}
	return c.found(ctx, kind, d, nil, "%s; it was pushed here, and has to be pushed again", wrong)
}

// quarantine deletes the row of a blob and puts its bytes aside.
func (s *Store) quarantine(ctx context.Context, d digest.Digest) error {
	e, err := s.digests.lock(ctx, d)
	if err != nil {
		return err
	}
	defer s.digests.unlock(e)
	return s.quarantineLocked(ctx, e)
}

// quarantineLocked is quarantine of e, which the caller has locked.
func (s *Store) quarantineLocked(ctx context.Context, e *entry) error {
	d := e.d
	if !s.digests.isBad(d) {
		return nil // somebody came across it, and it is gone
	}
	if err := s.forgetMade(ctx, d); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	var unsure error // whether the row is gone for good
	row, err := s.Stat(ctx, d)
	if err == nil {
		var gone bool
		if gone, unsure = s.deleteRow(ctx, e); !gone {
			return unsure
		}
		s.uncount(row)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	s.digests.setPending(e, nil)
	if err := s.blobs.Quarantine(ctx, d); err != nil && !errors.Is(err, ErrNotFound) {
		if row.Size > 0 { // else it had no row, and is counted
			s.leftBehind(d, "", row.Size)
		}
		return errors.Join(unsure, err)
	}
	s.strayGone(d, "")
	s.countQuarantined(context.WithoutCancel(ctx)) // it is there, whoever has left
	s.digests.setBad(e, false)
	return unsure
}

// countQuarantined looks at what is in quarantine: a person may have cleaned up.
func (s *Store) countQuarantined(ctx context.Context) {
	n, err := s.blobs.Quarantined(ctx)
	if err != nil && ctx.Err() == nil {
		s.metrics.failed(opSweep)
		s.log.ErrorContext(ctx, "not all that is in quarantine is counted", "err", err)
	}
	s.space.setAside(n, err == nil)
}

// digest hashes all of b within the bounds of the options.
func (c *check) digest(ctx context.Context, b Blob, a digest.Algorithm) (digest.Digest, error) {
	h := a.Hash()
	if err := ReadInto(ctx, counted{ctx, c, h}, b, b.Size(), c.buf); err != nil {
		return "", err
	}
	c.progress.Blobs++
	c.tell()
	return digest.NewDigest(a, h), nil
}

// counted is a hash of which a check tells how far it is, and that takes its time.
type counted struct {
	ctx context.Context
	c   *check
	hash.Hash
}

func (x counted) Write(p []byte) (int, error) {
	n, err := x.Hash.Write(p)
	x.c.progress.Bytes += int64(n)
	x.c.tell()
	if rate := x.c.o.BytesPerSecond; rate > 0 {
		due := time.Duration(float64(x.c.progress.Bytes) / float64(rate) * float64(time.Second))
		if early := due - time.Since(x.c.start); early > 0 {
			sleep(x.ctx, early)
		}
	}
	return n, err
}

func (c *check) tell() {
	if c.o.Progress != nil && time.Since(c.told) >= time.Second {
		c.told = time.Now()
		c.o.Progress(c.progress)
	}
}
