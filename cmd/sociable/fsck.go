package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/disk"
	"github.com/sociable/sociable/web"
)

func newFsckCommand() *cobra.Command {
	var flags storeFlags
	var q web.CheckRequest
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Read everything that is stored, and compare it with its digest",
		Long: `Read everything that is stored, and compare it with its digest, span tables with
their zTOCs, and rows with each other. A running server does it beside its work;
where none runs, the store is opened. A blob that is found to be wrong is not
served any more from that moment on.

With --repair, wrong bytes are put aside in the folder quarantine of the store
and fetched again when a client next asks for them, right ones that nothing
knows of are filed, and rows that contradict each other are put right. A blob that
was pushed here is put aside and has to be pushed again: until then each fsck
names the images that miss it. What can't be indexed any more is indexed anew when
the server next starts. Where the rows are lost as a whole (meta.db), what the
blobs are is read from them: what was pushed here is among them, but no repository
has it, so it has to be pushed again. No server starts over them before that has
come to its end: where it was stopped, run it again. A row that can't be read counts
as absent, for a server too, which logs it; --repair makes it anew of the bytes and
of other rows, or deletes it where what it said is asked for, or made, again. What
that can't mend is told: what was pushed has to be pushed again, a pin to be made
again.

A leftover is no problem: a file of which a crash came before its row, or a row of
a fetch whose file has another name by now. A server removes them a minute after
its start; --repair does so at once, and keeps the blobs among them that are right.

Exit codes: 0, nothing is wrong, whatever leftovers there are; 3, problems were
found, and all of them are mended; 4, problems were found, and some of them are
there still, since --repair was not given, or since only a push can mend them;
1, the check failed or did not come to its end; 2, wrong command line.`,
		Annotations: map[string]string{exitCodes: "3: problems were found, and all are mended. 4: problems were found that are there still."},
		Example: `  sociable fsck
  sociable fsck --repair --rate 100MiB`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if cmd.Flags().Changed("rate") && q.BytesPerSecond == 0 {
				q.BytesPerSecond = -1
			}
			check := func(api adminAPI) error { return runFsck(ctx, cmd, api, q, flags.json) }
			if q.Repair {
				return repair(ctx, flags.dataDir, check)
			}
			return withStore(ctx, flags.dataDir, check)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&q.Repair, "repair", false, "mend what can be mended")
	cmd.Flags().Var(bytesFlag{&q.BytesPerSecond}, "rate", "read at most `SIZE` a second, 0 is no limit (a running server: 128MiB, else no limit)")
	return cmd
}

// lostRows reports a store that has blobs, and of which the rows are gone. No crash
// does that: the file is there, whole, before the first blob.
func lostRows(ctx context.Context, dataDir string) (bool, error) {
	if !rowsGone(dataDir) {
		return false, nil
	}
	lost, err := disk.HasBlobs(ctx, dataDir)
	if err != nil {
		return false, fmt.Errorf("look for blobs of a store without rows: %w", err)
	}
	return lost, nil
}

// rowsGone reports that the file of rows is gone or empty. An error of the file's is
// left to who opens it.
func rowsGone(dataDir string) bool {
	st, err := os.Stat(filepath.Join(dataDir, metaFile))
	return errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0
}

// refuseLostRows is for who would take blobs without rows for a crash's leftovers, and
// remove them: it says what to do about lostRows.
func refuseLostRows(ctx context.Context, dataDir string) error {
	lost, err := lostRows(ctx, dataDir)
	if err == nil && lost {
		err = fmt.Errorf("the rows of the store in %s are lost, its blobs are there: restore %s from a snapshot; or run sociable fsck --repair --data %[1]s, "+
			"which finds out from the blobs what they are, and push again what was pushed here; or move the folder away, to begin empty", dataDir, metaFile)
	}
	return err
}

// restoredRows adds to err, which is what a repair of lost rows ended with, what it
// could not mend.
func restoredRows(err error) error {
	const told = "all rows were lost; what the blobs are was read from them. Tags and rights are asked for again; " +
		"what was pushed here is kept like what was pulled until it is pushed again: push it"
	if err == nil {
		return exitError{exitMended, errors.New(told)}
	}
	if found, ok := errors.AsType[exitError](err); ok {
		return exitError{found.code, fmt.Errorf("%w; %s", found.error, told)}
	}
	return err
}

func runFsck(ctx context.Context, cmd *cobra.Command, api adminAPI, q web.CheckRequest, asJSON bool) error {
	problems := []storage.Problem{}
	bar := progress{}
	tell := func(e web.CheckEvent) {
		switch {
		case e.Problem != nil:
			problems = append(problems, *e.Problem)
			if !asJSON {
				bar.end() // the next progress begins another
				printProblem(cmd.OutOrStdout(), *e.Problem)
				bar = progress{}
			}
		case e.Progress != nil:
			if bar.bar == nil {
				bar = newProgress(cmd, e.Progress.OfBytes, "reading")
			}
			bar.set(e.Progress.Bytes)
		}
	}
	report, err := api.Check(ctx, q, tell)
	bar.end()
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), map[string]any{"report": report, "problems": problems})
	} else {
		left := ""
		if report.Leftovers > 0 {
			left = "; " + inWords(report.Leftovers, "leftover") + " of a crash"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, %s, and %s checked in %s%s\n",
			inWords(report.Blobs, "blob"), humanize.IBytes(uint64(report.Bytes)), inWords(report.Layers, "span table"), report.Took.Round(time.Millisecond), left)
	}
	if err != nil || report.Problems == 0 {
		return err
	}
	found := exitError{exitProblems, fmt.Errorf("%s, %d of them repaired", inWords(report.Problems, "problem"), report.Repaired)}
	if report.Repaired == report.Problems {
		found.code = exitMended
	}
	return found
}

// Exit codes of fsck, besides those of every command.
const (
	exitMended   = 3 // problems were found, and none is left
	exitProblems = 4 // problems are left
)

func printProblem(w io.Writer, p storage.Problem) {
	end := ""
	switch {
	case p.Leftover && p.Repaired:
		end = "; a leftover, cleared up"
	case p.Leftover:
		end = "; a leftover"
	case p.Repaired:
		end = "; repaired"
	}
	fmt.Fprintf(w, "%s  %s  %s%s\n", p.Kind, p.Digest, p.Detail, end)
}

// inWords is a number of things: "1 blob", "2 blobs".
func inWords[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
