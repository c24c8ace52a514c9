package ztoc

import (
	"errors"
	"fmt"
)

// Class is the stage at which a layer is refused.
type Class string

// The classes, in the order in which the official builder would meet them.
const (
	ClassAlgorithm  Class = "algorithm"   // a compression that has no zTOC
	ClassDeflate    Class = "deflate"     // the compressed stream is damaged, cut, or something else
	ClassGzipHeader Class = "gzip-header" // a member that only zlib takes: a zlib stream, or a name or comment of 512 bytes or more
	ClassTarHeader  Class = "tar-header"  // not a tar, or a damaged or cut one
	ClassTarType    Class = "tar-type"    // an entry of a type that has no place in a zTOC
	ClassLimit      Class = "limit"       // one of Options' bounds; the official builder has none
	ClassSpanSize   Class = "span-size"   // a span size that the compression does not allow; the official builder crashes
)

// Causes that callers tell apart, with errors.Is.
var (
	ErrNotGzip     = errors.New("not gzip")
	ErrNotTar      = errors.New("not a tar archive")
	ErrTruncated   = errors.New("layer ends early")
	ErrChecksum    = errors.New("checksum does not match")
	ErrTrailing    = errors.New("data after the last gzip member")
	ErrUnsupported = errors.New("not supported")
	ErrTooLarge    = errors.New("too large") // beyond a bound of Options, or of the format
	// ErrMaxEntries and ErrMaxUncompressed say which bound of Options it was;
	// each is an ErrTooLarge.
	ErrMaxEntries      error = &boundError{}
	ErrMaxUncompressed error = &boundError{}
	// ErrAborted is what a Builder gives after Finish or Abort.
	ErrAborted = errors.New("build is over")
	// ErrInvalid is what every error of Parse and of a zTOC's methods is, when
	// the zTOC is at fault.
	ErrInvalid = errors.New("invalid ztoc")
	// ErrDigest says that the bytes of a span are not those the zTOC was made of.
	ErrDigest = errors.New("span digest does not match")
	// ErrRange says that a caller wants bytes where the layer has none.
	ErrRange = errors.New("outside of the layer")
	// ErrNotFound says that a zTOC has no file of that name.
	ErrNotFound = errors.New("no such file in layer")
)

// Error is the refusal of a layer: it has no zTOC, and never will. Any other
// error of a Builder is about this machine, such as a full disk.
type Error struct {
	Class Class
	// Offset is where the fault was met: in the compressed layer for the
	// classes deflate and gzip-header, in the uncompressed stream for the rest. A
	// wrong checksum or size is met in the trailer of its member, ErrTruncated
	// where the data ends.
	Offset int64
	Cause  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at offset %d: %v", e.Class, e.Offset, e.Cause)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// boundError is a bound of Options that a layer is beyond. It is told from others
// by its address, so it is not of size 0.
type boundError struct{ _ byte }

func (*boundError) Error() string { return ErrTooLarge.Error() }

// Is makes each bound an ErrTooLarge.
func (*boundError) Is(target error) bool { return target == ErrTooLarge }

func refuse(c Class, off int64, cause error) *Error {
	return &Error{Class: c, Offset: off, Cause: cause}
}
