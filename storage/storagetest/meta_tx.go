package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

func metaReadsItsWrites(t *testing.T, m storage.Meta) {
	row := blobRow(dig("1"), storage.KindBlob)
	update(t, m, func(tx storage.Tx) error {
		if err := first(tx.PutRight(repoA, row.Digest), tx.PutBlob(row)); err != nil {
			return err
		}
		ok, err := tx.HasRight(repoA, row.Digest)
		if err != nil || !ok {
			t.Errorf("HasRight in the transaction that put it: %t, %v", ok, err)
		}
		checkRow(t, "Blob in the transaction that put it", row)(tx.Blob(row.Digest))
		checkList(t, "RightRepos in the transaction", repos(tx, row.Digest), repoA)
		if err := tx.DeleteBlob(row.Digest); err != nil {
			return err
		}
		checkAbsent[storage.BlobRow](t, "Blob in the transaction that deleted it")(tx.Blob(row.Digest))
		return nil
	})
}

func metaRollback(t *testing.T, m storage.Meta) {
	no := errors.New("no")
	kept := blobRow(dig("kept"), storage.KindBlob)
	update(t, m, func(tx storage.Tx) error { return tx.PutBlob(kept) })
	err := m.Update(t.Context(), func(tx storage.Tx) error {
		if err := first(tx.PutRight(repoA, dig("1")), tx.DeleteBlob(kept.Digest)); err != nil {
			return err
		}
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("Update: %v, want fn's error", err)
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Blob", kept)(tx.Blob(kept.Digest))
		if ok, _ := tx.HasRight(repoA, dig("1")); ok {
			t.Error("a failed Update kept a right")
		}
		return nil
	})
	if err := m.View(t.Context(), func(storage.Tx) error { return no }); !errors.Is(err, no) {
		t.Errorf("View: %v, want fn's error", err)
	}
	err = m.View(t.Context(), func(tx storage.Tx) error { return tx.PutRight(repoA, dig("1")) })
	if err == nil {
		t.Error("a View could write")
	}
}

// metaIsolation has a View that begins before an Update and ends after it.
func metaIsolation(t *testing.T, m storage.Meta) {
	begun, written := make(chan struct{}), make(chan struct{})
	viewed := make(chan error, 1)
	go func() {
		viewed <- m.View(t.Context(), func(tx storage.Tx) error {
			close(begun)
			<-written
			if ok, err := tx.HasRight(repoA, dig("1")); ok || err != nil {
				return fmt.Errorf("a View sees what was written after it began: %t, %w", ok, err)
			}
			return nil
		})
	}()
	<-begun
	update(t, m, func(tx storage.Tx) error { return tx.PutRight(repoA, dig("1")) })
	close(written)
	if err := <-viewed; err != nil {
		t.Error(err)
	}
	view(t, m, func(tx storage.Tx) error {
		if ok, err := tx.HasRight(repoA, dig("1")); !ok || err != nil {
			t.Errorf("a View does not see what was written before it: %t, %v", ok, err)
		}
		return nil
	})
}

// addOne reads, adds and writes.
func addOne(tx storage.Tx) error {
	row, err := tx.Blob(dig("counter"))
	if errors.Is(err, storage.ErrNotFound) {
		row, err = blobRow(dig("counter"), storage.KindBlob), nil
		row.Size = 0
	}
	if err != nil {
		return err
	}
	row.Size++
	return tx.PutBlob(row)
}

func wantCounter(t *testing.T, m storage.Meta, want int64) {
	t.Helper()
	view(t, m, func(tx storage.Tx) error {
		row, err := tx.Blob(dig("counter"))
		if err != nil || row.Size != want {
			t.Errorf("counted %d (%v), want %d: updates were lost or repeated", row.Size, err, want)
		}
		return nil
	})
}

func metaConcurrent(t *testing.T, m storage.Meta) {
	const writers, each = 16, 10
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for range each {
				if err := m.Update(t.Context(), addOne); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	work.Wait()
	wantCounter(t, m, writers*each)
}

func metaFailureInCrowd(t *testing.T, m storage.Meta) {
	const writers, each = 8, 10
	no := errors.New("no")
	var work sync.WaitGroup
	for i := range writers {
		work.Go(func() {
			for range each {
				err := m.Update(t.Context(), func(tx storage.Tx) error {
					if err := addOne(tx); err != nil {
						return err
					}
					if i%4 == 0 {
						return no
					}
					return nil
				})
				if fails := i%4 == 0; errors.Is(err, no) != fails || (!fails && err != nil) {
					t.Errorf("writer %d: %v", i, err)
				}
			}
		})
	}
	work.Wait()
	wantCounter(t, m, (writers-2)*each)
}

// metaPanicInCrowd wants a fn that panics to hurt nobody for good.
func metaPanicInCrowd(t *testing.T, m storage.Meta) {
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			defer func() { _ = recover() }() // whoever runs the group gets it
			err := m.Update(t.Context(), func(tx storage.Tx) error {
				if i == 3 {
					panic("fn")
				}
				return tx.PutRight(repoA, dig(fmt.Sprint(i)))
			})
			if i == 3 && err == nil {
				t.Error("an Update whose fn panicked succeeded")
			}
		})
	}
	work.Wait()
	update(t, m, addOne)
	wantCounter(t, m, 1)
}

// metaEndsQueued ends contexts of updates that wait for another one: each must
// return, and be stored exactly when it says so.
func metaEndsQueued(t *testing.T, m storage.Meta) {
	const waiters = 8
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var work sync.WaitGroup
	work.Go(func() {
		err := m.Update(t.Context(), func(storage.Tx) error {
			once.Do(func() { close(begun) })
			<-goOn
			return nil
		})
		if err != nil {
			t.Errorf("the first Update: %v", err)
		}
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	stored := make([]bool, waiters)
	for i := range waiters {
		work.Go(func() {
			err := m.Update(ctx, func(tx storage.Tx) error { return tx.PutRight(repoA, queued(i)) })
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Update: %v, want the context's cause", err)
			}
			stored[i] = err == nil
		})
	}
	cancel()
	close(goOn)
	work.Wait()
	view(t, m, func(tx storage.Tx) error {
		for i, want := range stored {
			if got, err := tx.HasRight(repoA, queued(i)); err != nil || got != want {
				t.Errorf("update %d is stored %t (%v), its Update said %t", i, got, err, want)
			}
		}
		return nil
	})
}

func queued(i int) digest.Digest { return dig(fmt.Sprint("queued ", i)) }
