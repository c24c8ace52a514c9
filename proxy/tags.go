package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
)

// holdOff is how long an upstream that did not answer a tag check is not asked
// again: the next callers are spared the wait.
const holdOff = 10 * time.Second

// silence remembers upstreams that did not answer, until they do.
type silence struct {
	mu    sync.Mutex
	until map[string]time.Time
	why   map[string]error // why that is so where our own budget is what keeps it silent
}

// silent reports whether up did not answer when it was asked last, and whether
// it is time to ask again.
func (s *silence) silent(up string, now time.Time) (silent, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, silent := s.until[up]
	return silent, silent && !now.Before(until)
}

// reason is what is said of a silence.
func (s *silence) reason(up string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.why[up], errSilent)
}

func (s *silence) set(up string, until time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until[up] = until
	if delete(s.why, up); errors.Is(err, upstream.ErrBudget) {
		s.why[up] = err
	}
}

func (s *silence) end(up string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, up)
}

// manifestByTag finds what a tag means now. Within its TTL a known tag is
// served as it is; after that one HEAD for all who ask says whether it moved.
// Where that, and what it moved to, cannot be had within TagTimeout, the tag as
// known is served, with a warning; a later answer counts for the next request.
func (p *Proxy) manifestByTag(ctx context.Context, up *Upstream, repo oci.Repo, tag string, head bool) (found, error) {
	if up.shared(tag) {
		return p.sharedTag(ctx, up, repo, tag, head)
	}
	ref := oci.Reference{Tag: tag}
	if got, ok := p.filings.get(repo, ref); ok {
		return got, nil
	}
	row, desc, err := p.knownTag(ctx, repo, tag)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return found{}, fmt.Errorf("look up tag %s of %s: %w", tag, repo, err)
	}
	if err != nil { // never seen, or its manifest is gone
		if head {
			d, err := up.Registry.HeadManifest(ctx, repo.Name, ref)
			if err == nil {
				p.hear(ctx, up, repo, tag, d)
			}
			return found{desc: d, out: outcomeMiss}, err
		}
		return p.fetchManifest(ctx, up, repo, ref, "")
	}
	if up.Hosted || up.Offline || p.now().Sub(row.Checked) < up.TagTTL { // nobody else knows a hosted one
		return found{desc: desc, out: outcomeHit}, nil
	}
	if silent, due := p.silent.silent(up.Name, p.now()); silent {
		if due { // nobody waits to find out whether it is back
			key, fn := p.renewal(up, repo, row)
			p.manifests.join(p.life, key, fn)
		}
		return found{desc: desc, out: outcomeHit, stale: p.silent.reason(up.Name)}, nil
	}
	var got found
	if head {
		got, err = p.checkTag(ctx, up, repo, row, up.TagTimeout)
	} else {
		key, renew := p.renewal(up, repo, row)
		got, err = p.manifests.within(ctx, up.TagTimeout, key, renew)
	}
	if head && errors.Is(err, errLate) && ctx.Err() == nil { // so that what moved is known the next time
		key, fn := p.renewal(up, repo, row)
		p.manifests.join(p.life, key, fn)
	}
	return orKnown(ctx, up, got, desc, err)
}

// orKnown is what a check of a tag says, or the tag as it is known here where the
// upstream gave no answer.
func orKnown(ctx context.Context, up *Upstream, got found, known v1.Descriptor, err error) (found, error) {
	switch {
	case err == nil && got.desc.Digest == known.Digest:
		return found{desc: known, out: outcomeHit}, nil
	case err == nil:
		return got, nil
	case upstream.IsNotFound(err), errors.Is(err, storage.ErrBlocked):
		return found{}, err
	case upstream.IsDenied(err) && !up.Credentials: // gone, or private by now
		return found{}, err
	case ctx.Err() != nil:
		return found{}, context.Cause(ctx)
	}
	// No answer, 429, 5xx, or our own credentials refused: an expired robot
	// password must not stop a cluster.
	return found{desc: known, out: outcomeHit, stale: err}, nil
}

var errSilent = errors.New("the upstream did not answer a moment ago")

// knownTag gives the tag's row and the manifest that it leads to here.
func (p *Proxy) knownTag(ctx context.Context, repo oci.Repo, tag string) (row storage.TagRow, desc v1.Descriptor, err error) {
	err = p.store.View(ctx, func(tx storage.Tx) error {
		if row, err = tx.Tag(repo, tag); err != nil {
			return err
		}
		var blob storage.BlobRow
		if desc, blob, err = p.storedManifest(tx, row.Digest); err != nil {
			return err
		}
		if ok, err := p.has(tx, repo, row.Digest, derivedFrom(blob)); err != nil || ok {
			return err
		}
		return storage.ErrNotFound // it was learnt in a way that does not count any more
	})
	return row, desc, err
}

// renewal checks the tag and gets the manifest that it moved to, if it did: a
// call to share, under its key.
func (p *Proxy) renewal(up *Upstream, repo oci.Repo, row storage.TagRow) (string, func(context.Context) (found, error)) {
	return "renew " + repo.String() + ":" + row.Tag, func(ctx context.Context) (found, error) {
		now, err := p.checkTag(ctx, up, repo, row, checkTime)
		if err != nil || now.desc.Digest == row.Digest {
			return now, err
		}
		got, err := p.fetchManifest(ctx, up, repo, oci.Reference{Tag: row.Tag}, now.desc.Digest)
		p.listen(up, err)
		return got, err
	}
}

// checkTime bounds a tag check itself. A slow upstream is a sound one: its
// answer counts, though nobody may have waited for it.
const checkTime = 10 * time.Second

// checkTag asks upstream what the tag means, once for everybody, and files an
// answer that it has not moved. A caller waits until that has taken limit.
func (p *Proxy) checkTag(ctx context.Context, up *Upstream, repo oci.Repo, row storage.TagRow, limit time.Duration) (found, error) {
	return p.manifests.within(ctx, limit, "check "+repo.String()+":"+row.Tag+" "+up.Identity.String(), func(ctx context.Context) (found, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		desc, err := up.Registry.HeadManifest(ctx, repo.Name, oci.Reference{Tag: row.Tag})
		p.listen(up, err)
		switch {
		case err == nil && desc.Digest == row.Digest:
			row.Checked = p.now()
			err = p.fileTag(row, func(tx storage.Tx) error { return tx.PutTag(row) })
		case err == nil:
			p.hear(ctx, up, repo, row.Tag, desc)
		case upstream.IsNotFound(err):
			err = errors.Join(err, p.fileTag(row, func(tx storage.Tx) error { return tx.DeleteTag(repo, row.Tag) }))
		}
		return found{desc: desc, out: outcomeMiss}, err
	})
}

// listen leaves an upstream alone for a while that gave no answer.
func (p *Proxy) listen(up *Upstream, err error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded) || upstream.IsUnavailable(err):
		d := holdOff
		if after := upstream.RetryAfter(err); after > 0 {
			d = min(max(after, time.Second), time.Minute)
		}
		p.silent.set(up.Name, p.now().Add(d), err)
	case !errors.Is(err, context.Canceled):
		p.silent.end(up.Name)
	}
}

// fileTag writes what a check of row brought, unless the tag was changed while
// the answer was under way. It does not share the check's time.
func (p *Proxy) fileTag(row storage.TagRow, write func(storage.Tx) error) error {
	return p.store.Update(p.life, func(tx storage.Tx) error {
		now, err := tx.Tag(row.Repo, row.Tag)
		if errors.Is(err, storage.ErrNotFound) || err == nil && now.Digest != row.Digest {
			return nil
		}
		if err != nil {
			return err
		}
		return write(tx)
	})
}

// tags answers GET of a repository's tags (distribution specification,
// "Listing Tags"), as the upstream lists them.
func (p *Proxy) tags(w http.ResponseWriter, r *http.Request) error {
	up, repo, err := p.route(r, oci.ActionPull)
	if err != nil {
		return err
	}
	if up.Hosted {
		return p.hostedTags(w, r, repo)
	}
	n := -1
	if s := r.URL.Query().Get("n"); s != "" {
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			return oci.NewError(errcode.ErrorCodePaginationNumberInvalid, "n=%q is not a number of tags", s)
		}
	}
	ask := n
	if n == 0 { // an empty list, of a repository that is there
		ask = 1
	}
	last, err := lastSeen(r)
	if err != nil {
		return err
	}
	list, more, err := p.listTags(r.Context(), up, repo, ask, last)
	if upstream.IsNotFound(err) || errors.Is(err, storage.ErrNotFound) {
		return &oci.Error{Code: errcode.ErrorCodeNameUnknown, Message: fmt.Sprintf("repository %s is not known", repo), Err: err}
	}
	if err != nil {
		return edge("tags of "+repo.String(), err)
	}
	name := mux.Vars(r)["name"]
	if list == nil || n == 0 {
		list = []string{}
	}
	p.outcome(w, r, outcomeMiss)
	return sendPage(w, r, "/v2/"+name+"/tags/list", list, more, map[string]any{"name": name, "tags": list})
}
