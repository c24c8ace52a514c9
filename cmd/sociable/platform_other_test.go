package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestPlatformOfAnother: an image that no index names is not taken for one of a
// platform that was asked for and that it is not for.
func TestPlatformOfAnother(t *testing.T) {
	s := newShelf(t)
	idx := s.push(t, "acme/two:1", 9, "arm64")
	list, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(list.Manifests[0].Digest)
	if err == nil {
		err = remote.Write(s.ref(t, "acme/one:1"), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	admin := "127.0.0.1:" + freePort(t)
	srv := startServer(t, "--config", s.config, "--admin", admin)
	file := filepath.Join(t.TempDir(), "b.tar")
	const why = "it is for linux/arm64 alone, not for linux/s390x"
	for _, args := range [][]string{{"warm"}, {"export", "-o", file}} {
		args = append(args, "up/acme/one:1", "--data", srv.dir)
		out, errs, code := runSociable(t, "", append(args, "-p", "linux/s390x")...)
		if code != 1 || !strings.Contains(out+errs, why) {
			t.Errorf("%s: exit code %d\n%s%s", args[0], code, out, errs)
		}
		must(t, append(args, "-p", "linux/arm64/v8")...)
		must(t, args...) // whatever this machine is
	}
	pinned, _, _ := runSociable(t, "", "unpin", "up/acme/one:1", "--data", srv.dir)
	warm := "http://" + admin + "/api/v1/warm"
	if status, said := tell(t, warm, `{"name":"up/acme/one:1","platforms":["linux/s390x"],"pin":true}`); status != 200 || !strings.Contains(said, why) {
		t.Errorf("warm by the API: %d %.300s", status, said)
	}
	if pins := must(t, "pins", "--data", srv.dir); !strings.Contains(pinned, "unpinned") || strings.Contains(pins, "acme/one") {
		t.Errorf("what was refused is pinned: %s", pins)
	}
	url := "http://" + admin + "/api/v1/export"
	if status, said := tell(t, url, `{"names":["up/acme/one:1"],"platforms":["linux/s390x"]}`); status != 409 || !strings.Contains(said, why) {
		t.Errorf("export by the API: %d %.300s", status, said)
	}
	if status, said := tell(t, url, `{"names":["up/acme/one:1"],"platforms":["linux/arm64"]}`); status != 200 {
		t.Errorf("export by the API: %d %.300s", status, said)
	}
}
