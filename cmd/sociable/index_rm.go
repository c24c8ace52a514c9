package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

func newIndexRemoveCommand() *cobra.Command {
	var flags storeFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rm IMAGE|PATTERN",
		Short: "Offer no index of an image any more",
		Long: `Offer no index of an image any more in the repository that is named, or, of an
image that is named by its digest alone, in none: its SOCI v1 indexes are listed
no more, and its v2 image is served no more at its tag. They stay readable by
digest for index.retire_after. It holds until index create asks for one again.
What was pushed to the image's upstream (publish_upstream) is not offered here any
more either; it stays there, for those who ask the upstream itself, and is named:
delete it there, where the upstream lets you.

A pattern of one upstream, as index.rules have them (ghcr.io/acme/**:v*, redis:7*),
is of all images that are here and match it. What comes later is for the rules to
say: exclude it there.`,
		Example: `  sociable index rm redis:7
  sociable index rm 'ghcr.io/acme/**' --dry-run        which that would be`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			many := strings.Contains(args[0], "*")
			if dryRun && !many {
				return usageError{errors.New("--dry-run goes with a pattern: it shows which images that means"), false}
			}
			return withStore(cmd.Context(), flags.dataDir, func(api adminAPI) error {
				if many {
					return withdrawMany(cmd, api, args[0], dryRun, flags.json)
				}
				x, err := api.WithdrawIndex(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd.OutOrStdout(), x)
				}
				printWithdrawn(cmd.OutOrStdout(), x)
				return nil
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "of a pattern: say which images it means, and change nothing")
	return cmd
}

func printWithdrawn(w io.Writer, x web.Withdrawn) {
	fmt.Fprintf(w, "%s: %s withdrawn\n", x.Reference, english.Plural(len(x.Indexes), "index", "indexes"))
	for _, p := range x.Upstream {
		fmt.Fprintf(w, "stays at the upstream: %s\n", publishedText(p))
	}
	for _, repo := range x.Elsewhere {
		fmt.Fprintf(w, "still offered where a rule says so: %s\n", repo)
	}
}

// withdrawMany does it with all images that a pattern means, or says which. What was
// withdrawn before something goes wrong is told.
func withdrawMany(cmd *cobra.Command, api adminAPI, pattern string, dryRun, asJSON bool) error {
	refs, err := withdrawable(cmd.Context(), api, pattern)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if dryRun {
		if asJSON {
			return printJSON(w, refs)
		}
		for _, r := range refs {
			fmt.Fprintf(w, "%s would be withdrawn\n", r.Reference)
		}
		return nil
	}
	done := []web.Withdrawn{}
	for _, r := range refs {
		x, failed := api.WithdrawIndex(cmd.Context(), r.Reference)
		if failed != nil {
			err = fmt.Errorf("%s: %w", r.Reference, failed)
			break
		}
		x.Elsewhere = slices.DeleteFunc(x.Elsewhere, func(repo string) bool { // they have their turn, or had it
			return slices.ContainsFunc(refs, func(o meantImage) bool { return o.repo == repo })
		})
		if done = append(done, x); !asJSON {
			printWithdrawn(w, x)
		}
	}
	if asJSON {
		err = errors.Join(err, printJSON(w, done))
	}
	return err
}

// meantImage is one that a pattern means.
type meantImage struct {
	Reference string `json:"reference"` // canonical: by a tag, or the digest where no tag leads to it
	repo      string
}

// withdrawable gives the images that a pattern of one upstream means, and of which
// something may be offered. That there is none is an error.
func withdrawable(ctx context.Context, api adminAPI, pattern string) (refs []meantImage, err error) {
	name, tags := strings.TrimPrefix(pattern, "docker://"), "*"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tags = name[:i], name[i+1:]
	}
	first, _, slash := strings.Cut(name, "/")
	switch {
	case !patternGrammar.MatchString(name) || !tagPatternGrammar.MatchString(tags) || slices.ContainsFunc(strings.Split(name, "/"), tooManyStars):
		return nil, usageError{error: fmt.Errorf("%q is not a pattern of images; write ghcr.io/acme/**, or redis:7*", pattern)}
	case slash && strings.Contains(first, "*"), name == "**":
		return nil, usageError{error: fmt.Errorf("%q: name the upstream in front, as in docker.io/library/*", pattern)}
	}
	all, err := api.Indexes(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		own := web.IndexName{Repository: x.Repository, Tags: x.Tags, Withdrawn: x.Withdrawn}
		for _, n := range append([]web.IndexName{own}, x.Also...) {
			repo, err := oci.ParseRepo(n.Repository)
			if err != nil || n.Withdrawn || !oci.MatchAny([]string{name}, repo) {
				continue
			}
			if len(n.Tags) == 0 && tags == "*" {
				refs = append(refs, meantImage{n.Repository + "@" + x.Manifest.String(), n.Repository})
			}
			for _, tag := range n.Tags {
				if oci.MatchWord(tags, tag) {
					refs = append(refs, meantImage{n.Repository + ":" + tag, n.Repository})
				}
			}
		}
	}
	if len(refs) == 0 {
		return nil, fmt.Errorf("no image here of which an index may be offered matches %q; sociable index list --all shows what there is", pattern)
	}
	slices.SortFunc(refs, func(a, b meantImage) int { return strings.Compare(a.Reference, b.Reference) })
	return slices.Compact(refs), nil
}
