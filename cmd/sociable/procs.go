package main

import (
	"os"
	"runtime"
)

// moreProcs is how many goroutines more than there are processors may run at once.
const moreProcs = 2

// shareProcs lets some more goroutines run at once than there are processors. Most of
// a proxy's are in the kernel, which sends files for them; one that sleeps there keeps
// its place for 20 µs and more until the runtime finds out, and on a small machine a
// processor has nothing to do meanwhile. Go no longer follows a limit of processors that
// changes while the server runs. Who sets GOMAXPROCS decides for himself. The function
// that it gives ends it.
func shareProcs() (end func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + moreProcs)
	return func() { runtime.GOMAXPROCS(before) }
}
