// Command sociable is a pull-through registry proxy that indexes large layers
// for lazy loading while they pass.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, as the help of the root command documents them.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for could not be done
	exitUsage  = 2 // the command line or the configuration is wrong
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and reports its error on stderr.
func run(args []string, stdout, stderr io.Writer) int {
	started := false
	root := newRootCommand()
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	var usage usageError
	wrong := errors.As(err, &usage) || !started // cobra itself refused the command line
	switch {
	case asksJSON(cmd):
		printError(stderr, err)
	case usage.configuration:
		for line := range strings.SplitSeq(err.Error(), "\n") { // a line for each mistake, file:line first
			if strings.HasPrefix(line, "--") || strings.HasPrefix(line, envPrefix) {
				line = "sociable: " + line // it is of no file
			}
			fmt.Fprintln(stderr, line)
		}
	default:
		line, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintln(stderr, "sociable:", line)
	}
	if wrong {
		return exitUsage
	}
	if e, ok := errors.AsType[exitError](err); ok {
		return e.code
	}
	return exitFailed
}

// exitError is the outcome of a command that documents an exit code for it.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

// usageError is a mistake in the command line or in the configuration.
type usageError struct {
	error
	configuration bool
}

func (e usageError) Unwrap() error { return e.error }
