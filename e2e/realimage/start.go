package realimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
)

// ImageStart is an image of over 500 MB whose container runs: Python with numpy
// and scipy, beside tool chains that its start does not read.
const ImageStart = "start"

// Names of ImageStart's layers, in order.
const (
	startBase    = "base"    // Debian's essential packages
	startPython  = "python"  // the interpreter
	startRust    = "rust"    // Rust and Java
	startScience = "science" // numpy and scipy
	startGo      = "go"      // a Go tool chain
)

var startRecipes = []recipe{
	{startRust, []string{startBase, startPython}, []string{"rustc", "openjdk-17-jre-headless"}, klauspost},
	{startGo, []string{startBase, startPython, startRust, startScience}, []string{"golang-1.19"}, gnuGzip},
	{startScience, []string{startBase, startPython, startRust}, []string{"python3-numpy", "python3-scipy"}, goGzip},
	{startBase, nil, []string{"?essential", "apt"}, goGzip},
	{startPython, []string{startBase}, []string{"python3"}, klauspost},
}

// startVersion is raised when startRecipes or the image's configuration change.
const startVersion = "1"

// startProgram is what ImageStart runs, and StartOutput what that prints.
const (
	startProgram = "import numpy, scipy.linalg, scipy.optimize\n" +
		"print('%.6f' % scipy.linalg.norm(numpy.arange(12.).reshape(3, 4)), '%.6f' % scipy.optimize.brentq(lambda x: x * x - 2, 0, 2), flush=True)"
	StartOutput = "22.494444 1.414214\n"
)

// PrepareStart is Prepare for a layout of ImageStart alone.
func PrepareStart(ctx context.Context, dir string) (*Set, error) {
	s := &Set{Dir: filepath.Join(dir, "start-"+startVersion), Images: map[string]Image{}}
	if err := os.MkdirAll(s.blobs(), 0o755); err != nil {
		return nil, err
	}
	err := s.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.pack(ctx, apt{filepath.Join(dir, "apt")}, startRecipes); err == nil {
			err = s.save()
		}
	}
	if err == nil {
		err = s.addImage(ImageStart, "amd64", false, []string{startBase, startPython, startRust, startScience, startGo}, ggcr.Config{
			// No package's script has run: what update-alternatives would link is named.
			Env: []string{
				"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE=1",
				"LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/blas:/usr/lib/x86_64-linux-gnu/lapack",
			},
			Cmd: []string{"python3", "-c", startProgram},
		})
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the image that runs: %w", err)
	}
	return s, nil
}
