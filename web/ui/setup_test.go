package ui

import (
	"net/url"
	"strings"
	"testing"
)

// TestSetupForm: the test takes the spellings that commands take, and what is wrong
// with a name is said on the page that it was typed into.
func TestSetupForm(t *testing.T) {
	r := newRig(t, nil)
	for image, want := range map[string]struct {
		status int
		has    []string
		never  string
	}{
		"redis:7": {200, []string{`value="redis:7"`, "127.0.0.1:5000/docker.io/library/redis:7</p>"}, `id="fault"`},
		"":        {200, []string{"127.0.0.1:5000/docker.io/library/redis:7</p>"}, `id="fault"`},
		"<b>..":   {400, []string{`value="&lt;b&gt;.."`, `aria-invalid="true"`, `role="alert">no name: &lt;b&gt;..`}, `class="steps"`},
	} {
		w := r.do("POST", "/setup", url.Values{"client": {"podman"}, "image": {image}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		body := w.Body.String()
		if w.Code != want.status || strings.Contains(body, want.never) {
			t.Errorf("%q: %d, want %d without %q", image, w.Code, want.status, want.never)
		}
		for _, s := range append(want.has, `client=podman" aria-current="true"`) {
			if !strings.Contains(body, s) {
				t.Errorf("%q: the page has no %q", image, s)
			}
		}
	}
	if w := r.do("POST", "/setup", "client=none", "Content-Type", "application/x-www-form-urlencoded"); w.Code != 400 {
		t.Errorf("a client that there is none: %d, want 400", w.Code)
	}
}
