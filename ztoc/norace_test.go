//go:build !race

package ztoc

const raceEnabled = false
