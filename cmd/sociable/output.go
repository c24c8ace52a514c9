package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// output is where a command writes the one thing it makes. A file has its name
// only once it is whole, and the mode that it had before. What is no file, such
// as a pipe or a device, is written to and never replaced.
type output struct {
	name   string    // as it was named
	stdout io.Writer // if it is standard output
	path   string    // of a file: behind all symbolic links
	pipe   bool      // it is no file
	flags  int       // with which to open it then
	mode   fs.FileMode
	exists bool
}

// openOutput looks at what an output names, "-" being standard output, before any
// work is done for it. inputs are files that it must not be.
func openOutput(cmd *cobra.Command, name string, inputs ...string) (*output, error) {
	o := &output{name: name, path: name}
	if name == "-" {
		o.stdout = cmd.OutOrStdout()
		return o, nil
	}
	if name == "" {
		return nil, usageError{error: errors.New("the name of the output is empty")}
	}
	fi, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, o.newFile()
	case err != nil:
		return nil, err
	case fi.IsDir():
		return nil, fmt.Errorf("output %s is a folder", name)
	}
	if f, ok := cmd.OutOrStdout().(*os.File); ok && isSameFile(fi, f) {
		o.stdout = f
		return o, nil
	}
	o.exists, o.mode = true, fi.Mode().Perm()
	if fi.Mode().IsRegular() && isDescriptor(name) {
		o.pipe, o.flags = true, os.O_APPEND // behind what whoever opened it has written
	}
	if o.pipe = o.pipe || !fi.Mode().IsRegular(); o.pipe {
		return o, nil
	}
	for _, in := range inputs {
		if isInput(cmd, in, fi) {
			return nil, fmt.Errorf("output %s is the input %s", name, in)
		}
	}
	if o.path, err = filepath.EvalSymlinks(name); err != nil {
		return nil, err
	}
	return o, nil
}

func isSameFile(fi fs.FileInfo, f *os.File) bool {
	of, err := f.Stat()
	return err == nil && os.SameFile(fi, of)
}

// isInput reports whether the input in, "-" for standard input, is the file fi.
func isInput(cmd *cobra.Command, in string, fi fs.FileInfo) bool {
	if in == "-" {
		f, ok := cmd.InOrStdin().(*os.File)
		return ok && isSameFile(fi, f)
	}
	of, err := os.Stat(in)
	return err == nil && os.SameFile(fi, of)
}

// isDescriptor reports names of what is open, like /dev/stderr: whoever opened
// a file there goes on with it, so that it is not to be replaced.
func isDescriptor(name string) bool {
	name, err := filepath.Abs(name)
	return err == nil && (strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/proc/"))
}

// newFile follows links to a file that is not there yet, and sees to it that
// there is a folder for it.
func (o *output) newFile() error {
	const most = 40 // as many as Linux follows
	for range most {
		to, err := os.Readlink(o.path)
		if err != nil {
			if _, err = os.Stat(filepath.Dir(o.path)); errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("output %s: there is no folder %s", o.name, filepath.Dir(o.path))
			}
			return err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(o.path), to)
		}
		o.path = to
	}
	return fmt.Errorf("output %s: too many symbolic links", o.name)
}

// write writes all that from has. An error of from is given as it is.
func (o *output) write(from io.WriterTo) (int64, error) {
	if o.stdout != nil {
		return o.copy(o.stdout, from)
	}
	if o.pipe {
		f, err := os.OpenFile(o.path, os.O_WRONLY|o.flags, 0)
		if err != nil {
			return 0, err
		}
		n, err := o.copy(f, from)
		return n, errors.Join(err, f.Close())
	}
	f, err := newBeside(o.path)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", o.name, err)
	}
	n, err := o.copy(f, from)
	if err == nil && o.exists {
		err = f.Chmod(o.mode)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), o.path)
	}
	if err != nil {
		return n, errors.Join(err, os.Remove(f.Name()))
	}
	return n, nil
}

// copy tells errors of the output from those of what is written.
func (o *output) copy(w io.Writer, from io.WriterTo) (int64, error) {
	out := &outputWriter{w: w}
	n, err := from.WriteTo(out)
	if out.err != nil {
		return n, fmt.Errorf("write %s: %w", o.name, out.err)
	}
	return n, err
}

// outputWriter remembers its error.
type outputWriter struct {
	w   io.Writer
	err error
}

func (w *outputWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// newBeside makes a file in the folder of path, with the mode of a new file.
func newBeside(path string) (*os.File, error) {
	const tries = 100
	for i := 0; ; i++ {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%08x", filepath.Base(path), rand.Uint32()))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) || i == tries {
			return f, err
		}
	}
}

// writeFile writes a file of a command's own, such as one in a layout.
func writeFile(path string, from io.WriterTo) error {
	_, err := (&output{name: path, path: path, exists: true, mode: 0o644}).write(from)
	return err
}
