// Command datapath measures what passes through sociable, cold, warm and under
// faults, beside the same without a proxy, through nginx and through
// distribution's pull-through proxy, over a link of 20 ms and 50 MB/s, in one
// run. It prints a table; see docs/benchmarks.md.
//
// The bytes of every answer are compared with the original's, and what passed
// the link is counted: a mistake there makes the exit code 1. A missed time does
// not.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// runLimit is more than a run takes.
const runLimit = 40 * time.Minute

func main() { os.Exit(mainCode()) }

func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "datapath: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "load": // processes of the benchmark's own
		return generateLoad(os.Stdin, os.Stdout)
	case len(args) == 3 && args[0] == "registry":
		return serveRegistry(ctx, args[1], args[2])
	}
	var ids []string
	for _, x := range suites {
		ids = append(ids, x.id)
	}
	flags := flag.NewFlagSet("datapath", flag.ExitOnError)
	only := flags.String("rows", ".", "measure only the rows whose name, as the table has it, or suite matches this `regexp`; suites: "+strings.Join(ids, ", "))
	keep := flags.String("keep", "", "add what is measured to this `file`, and tell the table of all that it has: for a run in pieces")
	write := flags.String("write", "", "put the table into this `file`, in place of the last one")
	cache := flags.String("cache", ".cache", "`folder` of what is kept between runs: the layers")
	work := flags.String("work", "", "`folder` of the servers' stores (that of temporary files)")
	program := flags.String("sociable", os.Getenv("E2E_SOCIABLE"), "measure this `program` instead of building one ($E2E_SOCIABLE)")
	calm := flags.Duration("calm", 2*time.Minute, "wait for so `long` in all for moments in which other processes are quiet")
	verbose := flags.Bool("v", false, "print every measurement and what the servers write")
	_ = flags.Parse(args) // it exits
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(*cache)
	if err != nil {
		return err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // servers are stopped, not killed
	defer end()
	b := &bench{life: life, cache: dir, work: *work, sociable: *program, verbose: *verbose, others: others{budget: *calm}}
	if b.kept, err = openKept(*keep); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		b.close()
		return err
	}
	defer b.close()
	err = b.runAll(ctx, chosen)
	if *keep != "" {
		err = errors.Join(err, b.kept.write(*keep))
	}
	text := b.kept.preface() + "\n" + markdown(b.kept.rows())
	fmt.Print(text)
	if *write != "" && len(b.kept.Suites) > 0 {
		err = errors.Join(err, writeSection(*write, "## Data path\n\n"+text))
	}
	return err
}

// preface says when, where and what was measured.
func (k *kept) preface() string {
	return fmt.Sprintf("%s, %s, %d CPUs. Link: 20 ms a request, 50 MB/s shared; layer: 300 MiB of gzip. "+
		"Medians; memory is the peak. All on one machine: client, servers and link share the CPUs; programs that have "+
		"nothing to do with it took %s of them. No server writes an access log. Made by `make bench-datapath`.\n",
		k.when(), processor(), runtime.NumCPU(), taken(k.shares()))
}

// commit is the one that the program was built from, if it says so, or the
// work tree's.
func (b *bench) commit(ctx context.Context) string {
	var build struct{ Commit string }
	out, err := exec.CommandContext(ctx, b.sociable, "version", "--json").Output()
	if err == nil && json.Unmarshal(out, &build) == nil && len(build.Commit) >= 10 {
		return build.Commit[:10]
	}
	out, err = exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10", "--match=").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func processor() string {
	body, _ := os.ReadFile("/proc/cpuinfo") // nothing to tell without it
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
