package storage_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/storage/storagetest"
)

const (
	childEnv = "SOCIABLE_STORAGE_CHILD" // the child's folder
	roundEnv = "SOCIABLE_STORAGE_ROUND" // makes its contents its own
	kills    = 30
)

// TestKill has a child process use a store from several goroutines, kills it
// while it is at work, and holds the store to what the child said was done.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	told := newHistory(nil)
	told.rig = &rig{t: t}
	for round := range kills {
		acts := 1 + rand.IntN(80)
		lines := killAfter(t, dir, round, acts)
		for _, line := range lines {
			told.learn(line)
		}
		later := newRig(t, dir, nil, storage.Options{})
		if round%5 == 4 {
			if err := later.Sweep(t.Context()); err != nil {
				t.Errorf("Sweep: %v", err)
			}
			later.wantNoGarbage()
		}
		later.wantSound(told.contents)
		told.wantKept(later)
		if err := later.meta.Close(); err != nil {
			t.Errorf("close rows: %v", err)
		}
		if t.Failed() {
			t.Fatalf("after kill %d, which came after %d acts", round+1, acts)
		}
	}
	t.Logf("%d kills, %d blobs acknowledged and there, %d purged", kills, len(told.kept), len(told.gone))
	if len(told.kept) < kills || len(told.gone) == 0 || len(told.filed) == 0 {
		t.Errorf("the children did too little: %d kept, %d purged, %d filed", len(told.kept), len(told.gone), len(told.filed))
	}
}

// killAfter starts a child, kills it after it told acts things, and gives all
// that it told.
func killAfter(t *testing.T, dir string, round, acts int) (lines []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+dir, fmt.Sprintf("%s=%d", roundEnv, round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // a line without its end was not told
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(line))
		if len(lines) == acts {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); len(lines) < acts {
		t.Fatalf("the child ended by itself after %d acts: %v", len(lines), err)
	}
	return lines
}

// learn reads one line of a child: a verb, a content's name and its size.
func (h *history) learn(line string) {
	h.t.Helper()
	var verb, name string
	var size int
	if n, err := fmt.Sscan(line, &verb, &name, &size); n != 3 || err != nil {
		h.t.Fatalf("the child told %q: %v", line, err)
	}
	_, d := h.body(name, size)
	switch verb {
	case "begin": // its content alone matters
	case "kept":
		h.kept[d] = true
	case "purging":
		delete(h.kept, d)
	case "gone":
		h.gone[d] = true
	case "filed":
		h.filed[d] = ranges(0, int64(size/2))
	case "promoting":
		delete(h.filed, d)
	default:
		h.t.Fatalf("the child told %q", line)
	}
}

// child is the process that is killed.
func child(dir string) int {
	meta, err := bolt.Open(filepath.Join(dir, "meta.db"), bolt.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	blobs, err := disk.New(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	s := storage.New(storage.Options{Blobs: blobs, Meta: meta})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // should the parent die
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.Run(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
		}
	})
	for i := range 4 {
		work.Go(func() {
			c := &talker{s: s, round: os.Getenv(roundEnv), worker: i}
			if err := c.work(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "child:", err)
				os.Exit(1)
			}
		})
	}
	work.Wait()
	return 0
}

// talker is one goroutine of the child: it tells what it does.
type talker struct {
	s      *storage.Store
	round  string
	worker int
	n      int
}

func (c *talker) tell(verb, name string, size int) {
	fmt.Fprintf(os.Stdout, "%s %s %d\n", verb, name, size) // one write: lines do not mix
}

// next makes up new content.
func (c *talker) next() (name string, body []byte, d digest.Digest) {
	c.n++
	name = fmt.Sprintf("%s/%d/%d", c.round, c.worker, c.n)
	body = storagetest.Bytes(name, 1000+rand.IntN(60000))
	return name, body, digest.FromBytes(body)
}

func (c *talker) work(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, act := range []func(context.Context) error{c.durable, c.cached, c.put, c.arrive, c.purge} {
			if err := act(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *talker) commit(ctx context.Context, body []byte, d digest.Digest, dur storage.Durability) error {
	w, err := c.s.Create(ctx)
	if err != nil {
		return err
	}
	if _, err = w.Write(body); err == nil {
		err = w.Commit(ctx, storage.BlobRow{Digest: d, Kind: storage.KindBlob}, dur)
	}
	return errors.Join(err, w.Close())
}

func (c *talker) durable(ctx context.Context) error {
	name, body, d := c.next()
	if err := c.commit(ctx, body, d, storage.Durable); err != nil {
		return err
	}
	c.tell("kept", name, len(body))
	return nil
}

func (c *talker) cached(ctx context.Context) error {
	_, body, d := c.next()
	if err := c.commit(ctx, body, d, storage.Cached); err != nil {
		return err
	}
	b, err := c.s.Open(ctx, d) // nothing is promised but this
	if err != nil {
		return err
	}
	return b.Close()
}

func (c *talker) put(ctx context.Context) error {
	name, body, d := c.next()
	err := c.s.Put(ctx, storage.BlobRow{Digest: d, Kind: storage.KindManifest}, body, func(tx storage.Tx) error {
		return tx.PutManifest(storage.ManifestRow{Digest: d, Size: int64(len(body))})
	})
	if err == nil {
		c.tell("kept", name, len(body))
	}
	return err
}

// arrive files half of a blob, and goes on with every second one to the end.
func (c *talker) arrive(ctx context.Context) error {
	name, body, d := c.next()
	half := len(body) / 2
	c.tell("begin", name, len(body))
	p, err := c.s.OpenPartial(ctx, d)
	if err != nil {
		return err
	}
	_, err = p.WriteAt(body[:half], 0)
	if err == nil {
		err = p.Checkpoint(ctx, int64(len(body)), []oci.Range{{Off: 0, End: int64(half)}})
	}
	if err == nil {
		c.tell("filed", name, len(body))
	}
	if err == nil && c.n%2 == 0 {
		c.tell("promoting", name, len(body))
		if _, err = p.WriteAt(body[half:], int64(half)); err == nil {
			err = p.Promote(ctx, storage.KindBlob, int64(len(body)))
		}
	}
	return errors.Join(err, p.Close())
}

func (c *talker) purge(ctx context.Context) error {
	name, body, d := c.next()
	if err := c.commit(ctx, body, d, storage.Durable); err != nil {
		return err
	}
	c.tell("purging", name, len(body))
	if _, err := c.s.Purge(ctx, d); err != nil {
		return err
	}
	c.tell("gone", name, len(body))
	return nil
}
