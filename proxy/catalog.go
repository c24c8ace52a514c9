package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// maxListed bounds a page of tags or repositories, whatever is asked for.
const maxListed = 10_000

var errPageFull = errors.New("the page is full")

// page reads n and last of a listing's query.
func page(r *http.Request) (n int, last string, err error) {
	n = maxListed
	if s := r.URL.Query().Get("n"); s != "" {
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			return 0, "", oci.NewError(errcode.ErrorCodePaginationNumberInvalid, "n=%.100q is not a number of entries", s)
		}
	}
	last, err = lastSeen(r)
	return min(n, maxListed), last, err
}

// lastSeen is where a listing goes on: behind the entry that the query names.
func lastSeen(r *http.Request) (string, error) {
	last := r.URL.Query().Get("last")
	if strings.Contains(last, "\x00") { // it ends a name in the rows' keys
		return "", oci.NewError(errcode.ErrorCodeNameInvalid, "last=%.100q is no name that an entry can have", last)
	}
	return last, nil
}

// catalog lists the repositories of hosted namespaces that the caller may read,
// by namespace, then by name.
func (p *Proxy) catalog(w http.ResponseWriter, r *http.Request) error {
	n, last, err := page(r)
	if err != nil {
		return err
	}
	var names []string
	for _, up := range p.routes().namespaces() {
		if len(names) > n {
			break
		}
		after := ""
		switch first, rest, _ := strings.Cut(last, "/"); {
		case first == up.Name:
			after = rest
		case first > up.Name:
			continue
		}
		if names, err = p.catalogOf(r, up, after, names, n+1); err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
	}
	if l, ok := p.opt.Access.(Lister); ok && len(names) == 0 && last == "" {
		if err := l.MayList(r); err != nil {
			return err
		}
	}
	more := len(names) > n
	if names = names[:min(n, len(names))]; names == nil {
		names = []string{}
	}
	return sendPage(w, r, "/v2/_catalog", names, more, map[string]any{"repositories": names})
}

// catalogOf adds the repositories of up to names until there are n.
func (p *Proxy) catalogOf(r *http.Request, up *Upstream, after string, names []string, n int) ([]string, error) {
	var out []string
	err := p.store.View(r.Context(), func(tx storage.Tx) error {
		out = slices.Clone(names)
		return tx.ContentRepos(up.Name, after, func(repo oci.Repo) error {
			if len(out) >= n {
				return errPageFull
			}
			if !p.lists(r, repo) {
				return r.Context().Err()
			}
			shown, err := hasImage(tx, repo)
			if shown {
				out = append(out, repo.String())
			}
			return errors.Join(err, r.Context().Err())
		})
	})
	if errors.Is(err, errPageFull) {
		err = nil
	}
	return out, err
}

// hasImage reports whether repo has a manifest: blobs alone are what is being
// pushed, or what is left to be collected.
func hasImage(tx storage.Tx, repo oci.Repo) (bool, error) {
	err := tx.Tags(repo, "", func(storage.TagRow) error { return errPageFull })
	if err == nil {
		err = tx.Contents(repo, func(row storage.ContentRow) error {
			if row.Manifest {
				return errPageFull
			}
			return nil
		})
	}
	if errors.Is(err, errPageFull) {
		return true, nil
	}
	return false, err
}

// hostedTags lists the tags of a hosted repository, by name.
func (p *Proxy) hostedTags(w http.ResponseWriter, r *http.Request, repo oci.Repo) error {
	n, last, err := page(r)
	if err != nil {
		return err
	}
	known, more, tags := false, false, []string{}
	err = p.store.View(r.Context(), func(tx storage.Tx) error {
		known, more, tags = false, false, []string{}
		err := tx.Contents(repo, func(storage.ContentRow) error { known = true; return errPageFull })
		if err != nil && !errors.Is(err, errPageFull) {
			return err
		}
		return tx.Tags(repo, last, func(row storage.TagRow) error {
			if more = len(tags) >= n; more {
				return errPageFull
			}
			tags = append(tags, row.Tag)
			return nil
		})
	})
	if err != nil && !errors.Is(err, errPageFull) {
		return fmt.Errorf("list tags of %s: %w", repo, err)
	}
	if !known {
		return oci.NewError(errcode.ErrorCodeNameUnknown, "repository %s is not known", repo)
	}
	p.outcome(w, r, outcomeHit)
	name := mux.Vars(r)["name"]
	return sendPage(w, r, "/v2/"+name+"/tags/list", tags, more, map[string]any{"name": name, "tags": tags})
}

// sendPage sends one page of names, with a link to the next where there is more.
func sendPage(w http.ResponseWriter, r *http.Request, path string, names []string, more bool, doc map[string]any) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode a list: %w", err)
	}
	if more && len(names) > 0 {
		q := url.Values{"n": {strconv.Itoa(len(names))}, "last": {names[len(names)-1]}}
		if ns := r.URL.Query().Get("ns"); ns != "" {
			q.Set("ns", ns)
		}
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", path, q.Encode()))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left is nobody's loss
	}
	return nil
}
