package main

import (
	"errors"
	"fmt"

	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

// storeAlone says that a namespace has no registry behind it.
type storeAlone string

func (s storeAlone) Error() string {
	return fmt.Sprintf("what is pushed to %s is in the store alone", string(s))
}

// byName are the facts of an image that is nowhere: rules need no more than its
// name. here is why it is not known here, there what its upstream said, nil where it
// was not asked. ok is false where it may be there all the same.
func (e *explainer) byName(word string, here, there error) (f web.Facts, source string, ok bool) {
	var why string
	unknown := errors.Is(here, storage.ErrNotFound)
	var alone storeAlone
	switch {
	case there == nil && unknown:
		why = "it is not known here, and the upstream was not asked"
	case unknown && errors.As(there, &alone):
		why = "there is no such image here, where it would have been pushed to"
	case unknown && errors.Is(there, upstream.ErrOffline):
		why = "it is not known here, and its upstream is offline by configuration"
	case there != nil && upstream.IsNotFound(there):
		why = "there is no such image here, nor at its upstream"
	default:
		return f, "", false
	}
	repo, ref, err := e.name(word)
	if err != nil {
		return f, "", false
	}
	f = web.Facts{Reference: repo.String() + "@" + ref.Digest.String(), Repository: repo.String(), Digest: ref.Digest}
	if ref.Digest == "" {
		f.Reference, f.Tags = repo.String()+":"+ref.Tag, []string{ref.Tag}
	}
	return f, "its name alone: " + why, true
}

// nowhere reports facts of byName.
func nowhere(f *web.Facts) bool { return len(f.Images) == 0 && f.MediaType == "" }
