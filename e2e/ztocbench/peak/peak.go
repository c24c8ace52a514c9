// Package peak tells the most memory that a program of this benchmark had resident.
//
// The kernel's own account (ru_maxrss) can't be taken: of a program that was started by
// vfork, as Go starts them, it begins with the peak of the program that started it.
package peak

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// prefix begins the line of standard error that tells the peak.
const prefix = "peak resident kB "

// Tell says it on standard error. It is the last that a program does.
func Tell() {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			fmt.Fprintln(os.Stderr, prefix+f[1])
		}
	}
}

// Of is what a program told on standard error, in bytes.
func Of(stderr []byte) (int64, error) {
	_, said, ok := bytes.Cut(stderr, []byte(prefix))
	if !ok {
		return 0, fmt.Errorf("no line %q", prefix)
	}
	kB, err := strconv.ParseInt(string(bytes.TrimSpace(said)), 10, 64)
	return kB << 10, err
}
