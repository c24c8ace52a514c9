package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/imagelist"
	"github.com/sociable/sociable/internal/oci"
)

// imageFlags say which images a command is about.
type imageFlags struct {
	files     []string
	platforms []string

	bad []warmed // what read found where an image has to stand: failed before it began
}

func (f *imageFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.files, "file", "f", nil, "take the images from `FILE`, - for standard input: a list, or any YAML or JSON; repeatable")
	cmd.Flags().StringArrayVarP(&f.platforms, "platform", "p", nil,
		"of an image for several platforms, take `OS/ARCHITECTURE` (linux and this machine's); repeatable; \"all\" for all")
}

// hostPlatform is what containers on this machine run.
func hostPlatform() string { return "linux/" + runtime.GOARCH }

// anyPlatform reports that none was named: an image that is for another one alone
// is meant, too.
func (f *imageFlags) anyPlatform() bool { return len(f.platforms) == 0 }

// wanted gives the platforms to ask for; none: all.
func (f *imageFlags) wanted() ([]string, error) {
	if len(f.platforms) == 0 {
		return []string{hostPlatform()}, nil
	}
	var out []string
	for _, p := range f.platforms {
		if p == "all" {
			if len(f.platforms) > 1 {
				return nil, usageError{error: errors.New("--platform all goes alone")}
			}
			return nil, nil
		}
		if _, err := oci.ParsePlatform(p); err != nil {
			return nil, usageError{error: err}
		}
		out = append(out, p)
	}
	return out, nil
}

// ignored is what a file names that was not taken.
type ignored struct {
	File string `json:"file"`
	Line int    `json:"line"`
	What string `json:"what"`
}

// read gives the images of the arguments and the files, each once.
func (f *imageFlags) read(cmd *cobra.Command, args []string) (names []string, left []ignored, err error) {
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, a := range args {
		add(a)
	}
	if len(args)+len(f.files) == 0 {
		return nil, nil, usageError{error: fmt.Errorf("name images, or a file of them: %s -f images.txt", cmd.CommandPath())}
	}
	for _, file := range f.files {
		images, skipped, err := readImages(cmd, file)
		if err != nil {
			first, rest, more := strings.Cut(err.Error(), "\n")
			if more {
				first = fmt.Sprintf("%s (and %d more)", first, 1+strings.Count(rest, "\n"))
			}
			return nil, nil, fmt.Errorf("%s: %s", file, first)
		}
		for _, i := range images {
			add(i.Name)
		}
		for _, g := range skipped {
			if g.Bad {
				f.bad = append(f.bad, warmed{Name: g.Value, Error: fmt.Sprintf("%s:%d: %s", file, g.Line, strings.TrimPrefix(g.String(), fmt.Sprintf("line %d: ", g.Line)))})
				continue
			}
			left = append(left, ignored{file, g.Line, strings.TrimPrefix(g.String(), fmt.Sprintf("line %d: ", g.Line))})
		}
	}
	if len(names) == 0 && len(f.bad) > 0 {
		return nil, left, f.onlyBad(cmd)
	}
	if len(names) == 0 {
		return nil, left, fmt.Errorf("%s names no image", strings.Join(f.files, ", "))
	}
	return names, left, nil
}

// onlyBad is the error where nothing but mistakes was read: the first of them, with
// the others before it where a person looks.
func (f *imageFlags) onlyBad(cmd *cobra.Command) error {
	first, more := f.bad[0].Error, f.bad[1:]
	if len(more) == 0 {
		return errors.New(first)
	}
	for _, b := range more {
		if !asksJSON(cmd) {
			fmt.Fprintln(cmd.ErrOrStderr(), b.Error)
		}
	}
	return fmt.Errorf("%s (and %d more)", first, len(more))
}

func readImages(cmd *cobra.Command, file string) ([]imagelist.Image, []imagelist.Ignored, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, nil, err
		}
		defer opened.Close()
		in = opened
	}
	return imagelist.Read(in)
}

// tellIgnored says on standard error what was not taken.
func tellIgnored(w io.Writer, left []ignored) {
	for _, g := range left {
		fmt.Fprintf(w, "%s:%d: ignored: %s\n", g.File, g.Line, g.What)
	}
}
