package main

import (
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// progress shows how far a command has come, where a person is looking.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress begins a bar of so many bytes (-1: nobody knows) on standard
// error, if that is a terminal.
func newProgress(cmd *cobra.Command, bytes int64, what string) progress {
	f, ok := cmd.ErrOrStderr().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return progress{}
	}
	return progress{progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), progressbar.OptionUseIECUnits(true))}
}

// reader counts what is read from r.
func (p progress) reader(r io.Reader) io.Reader {
	if p.bar == nil {
		return r
	}
	return io.TeeReader(r, p.bar)
}

// set says how many bytes are done.
func (p progress) set(bytes int64) {
	if p.bar != nil {
		_ = p.bar.Set64(bytes) // the terminal may be gone
	}
}

// end takes the bar away.
func (p progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish() // the terminal may be gone
	}
}

// of says how many bytes there are, as far as is known by now.
func (p progress) of(bytes int64) {
	if p.bar != nil && p.bar.GetMax64() != bytes {
		p.bar.ChangeMax64(bytes)
	}
}
