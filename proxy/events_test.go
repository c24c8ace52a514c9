package proxy

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// toldAll keeps what it is told of, in short.
type toldAll struct {
	mu   sync.Mutex
	list []string
}

func (x *toldAll) Wants(oci.EventKind) bool { return true }

func (x *toldAll) Note(e oci.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	said := string(e.Kind) + " " + e.Repo.String() + " " + e.Target.Digest.String()
	if e.Tag != "" {
		said += " " + e.Tag
	}
	if e.FromRepo != (oci.Repo{}) {
		said += " from " + e.FromRepo.String()
	}
	x.list = append(x.list, said)
}

func (x *toldAll) File(_ storage.EventTx, e oci.Event) error {
	x.Note(e)
	return nil
}

func (x *toldAll) take() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := x.list
	x.list = nil
	return list
}

// TestEachChangeIsTold: pushes, mounts, pulls and deletions are told of, in a hosted
// namespace and at an upstream that takes pushes, and what comes to nothing is not.
func TestEachChangeIsTold(t *testing.T) {
	hosted, through := &toldAll{}, &toldAll{}
	here := newHost(t, Hosting{}, func(o *Options) { o.Events = hosted })
	host := newHost(t, Hosting{}, nil)
	front := newServer(t, &registry{Server: host.Server}, func(o *Options) { o.Upstreams[0].PushThrough, o.Events = true, through })
	for prefix, s := range map[string]struct {
		*server
		told *toldAll
	}{"local/": {here, hosted}, "up/local/": {front, through}} {
		repo, other := prefix+"app", prefix+"other"
		want := func(what string, want ...string) {
			t.Helper()
			var got []string
			waitFor(t, func() bool { got = append(got, s.told.take()...); return len(got) >= len(want) })
			if diff := cmp.Diff(want, append(got, s.told.take()...)); diff != "" {
				t.Errorf("%s%s (-want +got):\n%s", prefix, what, diff)
			}
		}
		layer := random(100, 1)
		d, empty := digest.FromBytes(layer).String(), oci.EmptyDigest.String()
		m := s.pushImage(t, repo, "v1", layer).String()
		pushes := s.told.take()
		for _, push := range []string{"push " + repo + " " + d, "push " + repo + " " + empty, "push " + repo + " " + m + " v1"} {
			if !slices.Contains(pushes, push) {
				t.Errorf("%spush: no %q in %q", prefix, push, pushes)
			}
		}
		if a := s.send(t, http.MethodPost, "/v2/"+other+"/blobs/uploads/?from="+repo+"&mount="+d, nil); a.status != http.StatusCreated {
			t.Fatalf("mount: %d %s", a.status, a.body)
		}
		want("mount", "mount "+other+" "+d+" from "+repo)
		s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/v1")
		want("pull of a manifest", "pull "+repo+" "+m+" v1")
		s.do(t, http.MethodGet, "/v2/"+repo+"/blobs/"+d)
		want("pull of a blob", "pull "+repo+" "+d)
		s.do(t, http.MethodHead, "/v2/"+repo+"/manifests/v1")
		s.do(t, http.MethodGet, "/v2/"+repo+"/manifests/none")
		s.do(t, http.MethodDelete, "/v2/"+repo+"/manifests/"+digest.FromString("none").String())
		want("what reads nothing and changes nothing")
		if a := s.do(t, http.MethodDelete, "/v2/"+repo+"/manifests/"+m); a.status != http.StatusAccepted {
			t.Fatalf("delete: %d %s", a.status, a.body)
		}
		want("deletion", "delete "+repo+" "+m)
	}
}
