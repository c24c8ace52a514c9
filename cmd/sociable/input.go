package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// openFile opens a file that a person named to read it from the beginning to the
// end; what is one of: "layer", "zTOC".
func openFile(what, path string) (*os.File, fs.FileInfo, error) {
	if path == "" {
		return nil, nil, usageError{error: fmt.Errorf("the name of the %s is empty", what)}
	}
	f, err := os.Open(path)
	if path == "-" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil, usageError{error: fmt.Errorf("the %s is not read from standard input here: name a file", what)}
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if fi.IsDir() {
		hint := ""
		if isLayout(path) {
			hint = "; it is an OCI layout: see --layout, and sociable index create"
		}
		return nil, nil, errors.Join(fmt.Errorf("%s is a folder, not a %s%s", path, what, hint), f.Close())
	}
	return f, fi, nil
}

// openRandom opens a file in which it is read here and there.
func openRandom(what, path string) (*os.File, int64, error) {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() && !fi.IsDir() { // opening a pipe would wait
		return nil, 0, fmt.Errorf("%s is no regular file: in a %s it is read here and there", path, what)
	}
	f, fi, err := openFile(what, path)
	if err != nil {
		return nil, 0, err
	}
	return f, fi.Size(), nil
}
