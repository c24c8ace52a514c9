package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// mostCompleted is more than anybody reads through.
const mostCompleted = 200

// Complete lists the first names of images here that begin with word, by tag, in the
// spelling that word begins: canonical, or without the upstream.
func Complete(ctx context.Context, v Viewer, word string) ([]string, error) {
	list, enough := []string{}, errors.New("enough")
	err := v.View(ctx, func(tx storage.Tx) error {
		list = list[:0]
		return tx.TagRepos(func(repo oci.Repo) error {
			name := spelt(repo, word)
			if name == "" {
				return nil
			}
			return tx.Tags(repo, "", func(row storage.TagRow) error {
				if x := name + ":" + row.Tag; strings.HasPrefix(x, word) {
					list = append(list, x)
				}
				if len(list) >= mostCompleted {
					return enough
				}
				return nil
			})
		})
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return list, err
}

// spelt is the first spelling of repo's name that word begins, or goes on from.
func spelt(repo oci.Repo, word string) string {
	for _, name := range []string{repo.String(), repo.Name, strings.TrimPrefix(repo.Name, "library/")} {
		if strings.HasPrefix(name, word) || strings.HasPrefix(word, name+":") {
			return name
		}
	}
	return ""
}

func (s *Web) complete(w http.ResponseWriter, r *http.Request) error {
	list, err := Complete(r.Context(), s.opt.Store, r.URL.Query().Get("word"))
	if err != nil {
		return err
	}
	return sendJSON(w, list)
}
