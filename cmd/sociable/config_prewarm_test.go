package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFollowedOfNobody: an image that no upstream can have is told when the
// configuration is checked, and not at its first look alone.
func TestFollowedOfNobody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	text := "upstreams: {lab: {url: 'http://127.0.0.1:9'}, up.test: {aliases: [up.alias]}}\nhosted: {our.own: {}}\n" +
		"prewarm:\n  jobs:\n  - {schedule: '@hourly', images: [redis:7, lab/a:1, up.test/a:1, up.alias/a:1, our.own/a:1]}\n" +
		"  - schedule: '@hourly'\n    images:\n    - quay.io/a/b:1.*\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := runSociable(t, "", "config", "check", file)
	all := out + errs
	want := file + ":8: prewarm.jobs[1].images: no upstream \"quay.io\" is configured: quay.io/a/b:1.* is not followed"
	if code != 0 || !strings.Contains(all, want) || strings.Count(all, "is not followed") != 1 {
		t.Errorf("exit code %d:\n%s\nwant %s", code, all, want)
	}
}

// TestEveryBadImageIsTold: where no image is left, the mistakes are what is said.
func TestEveryBadImageIsTold(t *testing.T) {
	pod := "kind: Pod\nspec:\n  containers:\n  - {name: a, image: {x: 1}}\n  - {name: b, image: [lab/a:1]}\n  - {name: c}\n  - {name: d, image: 3}\n"
	for _, args := range [][]string{{"warm", "-f", "-"}, {"export", "-f", "-", "-o", filepath.Join(t.TempDir(), "x.tar")}} {
		_, errs, code := runSociable(t, pod, append(args, "--data", filepath.Join(t.TempDir(), "data"))...)
		for _, want := range []string{"-:4: spec.containers[0].image", "-:5: spec.containers[1].image", "-:6: spec.containers[2]", "-:7: spec.containers[3].image"} {
			if code != 1 || !strings.Contains(errs, want) {
				t.Errorf("%s: exit code %d\n%s\nwant %s", args[0], code, errs, want)
			}
		}
	}
}
