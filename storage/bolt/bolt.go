package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sociable/sociable/storage"
)

// Options of Open; the zero value is right for a server.
type Options struct {
	// LockTimeout is how long to wait for another process to let go of the
	// file: 1 s when 0.
	LockTimeout time.Duration
	// NoSync leaves durability to chance: for tests and generators only.
	NoSync bool
	// Logger is told of each row that can't be read, once; nil discards.
	Logger *slog.Logger
}

// initialMap is the address space, not memory, that is mapped at first: to map
// more, a write has to wait until no transaction reads.
const initialMap = 256 << 20

// DB is a storage.Meta in a bbolt file.
type DB struct {
	db      *bbolt.DB
	path    string
	begins  *beginner
	updates *group
	told    *told
}

var _ storage.Meta = (*DB)(nil)

// Open opens the file path or makes it, and brings its schema up to date.
// storage.ErrLocked when another process has it open, storage.ErrSchema when a
// newer program wrote it, storage.ErrCorrupt when it is damaged. The caller closes
// the DB.
func Open(path string, o Options) (_ *DB, err error) {
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	var file *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = errors.Join(recovered(path, r), file.Close()) // and with it the lock
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         o.LockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: initialMap,
		NoSync:          o.NoSync,
		NoGrowSync:      o.NoSync,
		NoStatistics:    true,
		OpenFile: func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag, perm) //nolint:gosec // the path that the caller gave
			file = f
			return f, err
		},
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w by another process", path, storage.ErrLocked)
	}
	if err != nil && isDamage(err) {
		return nil, damaged(path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := migrate(db); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	t := newTold(o.Logger)
	b := &beginner{db: db, path: path}
	return &DB{db: db, path: path, begins: b, updates: newGroup(b, path, t), told: t}, nil
}

// View runs fn over the last committed state. It waits for no Update.
func (d *DB) View(ctx context.Context, fn func(storage.Tx) error) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = recovered(d.path, r)
		}
	}()
	t, err := d.begins.begin(false)
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer d.begins.end(t)
	return fn(newTx(t, d.told))
}

// Update runs fn, maybe with those of other callers, in one durable write.
func (d *DB) Update(ctx context.Context, fn func(storage.Tx) error) error {
	return d.updates.run(ctx, fn)
}

// Close waits for transactions and gives the file free.
func (d *DB) Close() error {
	if d.updates.broken.Load() != nil || d.begins.lost.Load() != nil {
		return nil // what panicked may have left bbolt's locks held
	}
	if err := d.db.Close(); err != nil {
		return fmt.Errorf("close rows: %w", err)
	}
	return nil
}

// tx is a storage.Tx over a bbolt transaction.
type tx struct{ *state }

// state is what belongs to one caller's part of a transaction.
type state struct {
	t      *bbolt.Tx
	told   *told
	unread int // rows that could not be read
}

func newTx(t *bbolt.Tx, told *told) tx { return tx{&state{t: t, told: told}} }

var _ storage.Tx = tx{}
