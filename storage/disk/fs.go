package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is the little of a file system that a Disk needs. OS is the real one;
// another one is for tests that inject faults.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	// Free is the room left for this user and the size of the file system
	// that holds name, in bytes; both -1 where that is not known.
	Free(name string) (free, total int64, err error)
}

// File is an open file or folder of an FS.
type File interface {
	io.ReadWriteCloser
	io.ReaderAt
	io.WriterAt
	Stat() (fs.FileInfo, error)
	Chmod(fs.FileMode) error
	Truncate(size int64) error
	Sync() error
	// OS is the operating system's file below, nil where there is none.
	OS() *os.File
}

// OS is the operating system's file system.
type OS struct{}

type osFile struct{ *os.File }

func (f osFile) OS() *os.File { return f.File }

// OpenFile is os.OpenFile, but for a file to be read, of which there is one with
// every blob that is sent: os tries whether such a file can be waited for, which
// takes five system calls and is never so of one on a disk. What else may be under
// its name, a named pipe, is not waited for to be opened.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if flag != os.O_RDONLY {
		f, err := os.OpenFile(name, flag, perm)
		if err != nil {
			return nil, err
		}
		return osFile{f}, nil
	}
	for {
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err == nil {
			if err := syscall.SetNonblock(fd, false); err != nil {
				return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: err}, syscall.Close(fd))
			}
			return osFile{os.NewFile(uintptr(fd), name)}, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// Mkdir is os.Mkdir.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// Stat is os.Stat.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir is os.ReadDir.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
