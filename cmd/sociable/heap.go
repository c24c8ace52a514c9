package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// heapReserve is memory that is asked for and never touched: it takes none of
	// the machine's, but counts when the collector decides when to run.
	heapReserve = 24 << 20
	// heapPercent is by how much the heap, the reserve included, may grow between
	// two collections.
	heapPercent = 60
)

// relaxCollector has the garbage collector run less often while the heap is
// small. By itself it waits for no more than 4 MiB of new objects: a server with
// next to nothing on its heap then spends a sixth of its processor time on going
// through that, some fifty times a second. With the reserve it runs every 15 to
// 20 MiB; a heap so large that it matters grows by no more than it would have.
// Who sets GOGC decides for himself. The function that it gives ends it.
func relaxCollector() (end func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	reserve := make([]byte, heapReserve)
	before := debug.SetGCPercent(heapPercent)
	return func() {
		debug.SetGCPercent(before)
		runtime.KeepAlive(reserve)
	}
}
