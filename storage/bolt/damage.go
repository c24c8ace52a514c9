package bolt

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/sociable/sociable/storage"
)

// bbolt panics where a page is not what it should be, and the system faults where
// the file is shorter than bbolt takes it to be. Neither may end a server that
// serves the rest, or be all that an operator is told: see recovered.

// recovered makes an error of r, which was recovered while the rows of the file path
// were read or written. What is not a panic of bbolt's own goes on up. To be called
// by the deferred function that recovered it.
func recovered(path string, r any) error {
	if !isDamaged(r) {
		panic(r)
	}
	return damaged(path, why(r))
}

// why says in an operator's words what r, which isDamaged, tells.
func why(r any) any {
	if isFault(r) {
		return "it is shorter than it says, or a part of it can't be read from the disk"
	}
	if _, ok := r.(runtime.Error); ok { // an index that is out of range, a nil pointer
		return fmt.Sprintf("a page or a table is missing, or not what it should be: %v", r)
	}
	return r
}

func damaged(path string, why any) error {
	return fmt.Errorf("%s is %w (%v): restore it from a snapshot; or move it away and run sociable fsck --repair, which finds out from the blobs what they are, "+
		"and push again what was pushed here", path, storage.ErrCorrupt, why)
}

// isDamaged tells what was just recovered and is bbolt's own, or a fault of memory
// which is the file's: whoever reads a row reads that.
func isDamaged(r any) bool {
	return isFault(r) || inBbolt()
}

func isFault(r any) bool {
	fault, ok := r.(interface{ Addr() uintptr })
	return ok && fault.Addr() >= 4096 // else of a nil pointer
}

// inBbolt reports whether the innermost function that is no part of the runtime,
// where a panic began, is bbolt's.
func inBbolt() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	panicked := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic" || f.Function == "runtime.sigpanic":
			panicked = true
		case panicked && !strings.HasPrefix(f.Function, "runtime."):
			return strings.HasPrefix(f.Function, "go.etcd.io/bbolt")
		}
		if !more {
			return false
		}
	}
}

// isDamage reports errors of bbolt.Open that tell of a file that is not a whole one.
func isDamage(err error) bool {
	for _, bad := range []error{berrors.ErrInvalid, berrors.ErrChecksum, berrors.ErrVersionMismatch} {
		if errors.Is(err, bad) {
			return true
		}
	}
	return strings.Contains(err.Error(), "file size too small")
}
