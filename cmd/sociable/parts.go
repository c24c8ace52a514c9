package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// parts writes a file, or as many files as it takes with at most size bytes each:
// name.001, name.002 and so on, which joined are the file. They have their names
// only once all of it is written.
type parts struct {
	name string
	size int64       // 0: one file
	mode fs.FileMode // of the file that is replaced; 0: of a new one

	f     *os.File
	left  int64
	names []string // begun so far, each behind unfinished
}

const unfinished = ".unfinished"

func (p *parts) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if p.f == nil || p.size > 0 && p.left == 0 {
			if err := p.turn(); err != nil {
				return n, err
			}
		}
		piece := b
		if p.size > 0 {
			piece = b[:min(int64(len(b)), p.left)]
		}
		m, err := p.f.Write(piece)
		n += m
		p.left -= int64(m)
		if err != nil {
			return n, err
		}
		b = b[m:]
	}
	return n, nil
}

// turn ends the file at work and begins the next.
func (p *parts) turn() error {
	if err := p.sync(); err != nil {
		return err
	}
	name := p.name
	if p.size > 0 {
		name = partName(p.name, len(p.names)+1)
	}
	f, err := os.OpenFile(name+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	p.f, p.left, p.names = f, p.size, append(p.names, name)
	if p.mode != 0 {
		return f.Chmod(p.mode)
	}
	return nil
}

func (p *parts) sync() error {
	if p.f == nil {
		return nil
	}
	f := p.f
	p.f = nil
	return errors.Join(f.Sync(), f.Close())
}

// finish gives the files their names, and removes parts of an earlier bundle of
// the same name that has more of them.
func (p *parts) finish() ([]string, error) {
	if err := p.sync(); err != nil {
		return nil, err
	}
	for _, name := range p.names {
		if err := os.Rename(name+unfinished, name); err != nil {
			return nil, err
		}
	}
	if p.size > 0 {
		n := len(p.names) + 1
		for os.Remove(partName(p.name, n)) == nil { // until there is none
			n++
		}
	}
	return p.names, nil
}

// abandon removes what is not finished.
func (p *parts) abandon() {
	_ = p.sync() // it is thrown away
	for _, name := range p.names {
		_ = os.Remove(name + unfinished) // renamed, or it stays for a person to see
	}
}

func partName(name string, n int) string { return fmt.Sprintf("%s.%03d", name, n) }

// openParts opens a bundle: - for standard input, a file, or where there is none
// of that name its parts; several names are the parts in that order.
func openParts(stdin io.Reader, names []string) (io.Reader, int64, func(), error) {
	if len(names) == 1 && names[0] == "-" {
		return stdin, -1, func() {}, nil
	}
	if len(names) == 1 {
		if _, err := os.Stat(names[0]); errors.Is(err, fs.ErrNotExist) {
			var found []string
			for n := 1; ; n++ {
				if _, err := os.Stat(partName(names[0], n)); err != nil {
					break
				}
				found = append(found, partName(names[0], n))
			}
			if len(found) > 0 {
				names = found
			}
		}
	}
	var files []*os.File
	var in []io.Reader
	var size int64
	closeAll := func() {
		for _, f := range files {
			_ = f.Close() // only read from
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			closeAll()
			return nil, 0, nil, err
		}
		files, in = append(files, f), append(in, f)
		if fi, err := f.Stat(); err == nil {
			size += fi.Size()
		}
	}
	return io.MultiReader(in...), size, closeAll, nil
}
