//go:build race

package ztoc

// raceEnabled makes the largest test smaller: the race detector slows the
// decoder down twentyfold.
const raceEnabled = true
