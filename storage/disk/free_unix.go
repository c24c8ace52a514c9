//go:build linux || darwin

package disk

import (
	"io/fs"
	"syscall"
)

// Free asks statfs(2).
func (OS) Free(name string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(name, &st); err != nil {
		return -1, -1, err
	}
	//nolint:unconvert // the fields have other types elsewhere
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// allocated is how much of a file has blocks.
func allocated(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512 // of that size whatever the file system's is
	}
	return st.Size()
}
