package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks is USER_HZ, in which the kernel tells processor time to programs; it is
// 100 on every Linux that Go runs on.
const ticks = 100

// processorSeconds is the user and system time that a process, its children
// that live and those that it has waited for have used.
func processorSeconds(pid int) (float64, error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	stats := map[int]stat{}
	for _, name := range all {
		body, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		s, err := parseStat(body)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		stats[s.pid] = s
	}
	if _, ok := stats[pid]; !ok {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	var sum int64
	for _, s := range stats {
		if s.within(pid, stats) {
			sum += s.ticks
		}
	}
	return float64(sum) / ticks, nil
}

// stat is what is of interest of /proc/PID/stat (proc(5)).
type stat struct {
	pid, parent int
	ticks       int64 // own, and of children that were waited for
}

// within reports whether s is the process pid or descends from it.
func (s stat) within(pid int, all map[int]stat) bool {
	for range len(all) {
		if s.pid == pid {
			return true
		}
		parent, ok := all[s.parent]
		if !ok {
			return false
		}
		s = parent
	}
	return false
}

func parseStat(body []byte) (stat, error) {
	// The second field is the program's name in brackets, which may hold anything.
	open, end := bytes.IndexByte(body, '('), bytes.LastIndexByte(body, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("no program name in %q", body)
	}
	fields := strings.Fields(string(body[end+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("too short: %q", body)
	}
	var s stat
	var err error
	if s.pid, err = strconv.Atoi(strings.TrimSpace(string(body[:open]))); err != nil {
		return stat{}, err
	}
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return stat{}, err
	}
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return stat{}, err
		}
		s.ticks += n
	}
	return s, nil
}

// residentBytes is the memory that a process holds now (VmRSS).
func residentBytes(pid int) (int64, error) {
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("no VmRSS in /proc/%d/status", pid)
}

// descriptors is how many file descriptors a process has open.
func descriptors(pid int) (int, error) {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(all), err
}
