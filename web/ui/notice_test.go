package ui

import (
	"net/http"
	"strings"
	"testing"
)

// TestDoneIsSaidOnce: what a button did is said by the page that comes next, and
// by no other: not again, not where somebody made up the address or the cookie,
// and not to a page that only asks for itself again.
func TestDoneIsSaidOnce(t *testing.T) {
	r := newOperated(t, nil)
	page := "/images/" + r.image.String()
	says := func(path string, header ...string) bool {
		t.Helper()
		return strings.Contains(r.do("GET", path, "", header...).Body.String(), `class="done"`)
	}
	for _, made := range []string{page + "?done=pin", "/images?done=purge&digest=" + r.image.String() + "&blobs=9&bytes=9", "/jobs?done=retry&jobs=9"} {
		if says(made) {
			t.Errorf("%s says what was never done", made)
		}
	}
	pressed := r.do("POST", page+"/pin", "", "Content-Type", "application/x-www-form-urlencoded")
	at, cookie := pressed.Header().Get("Location"), cookieOf(pressed)
	if at != page || cookie == "" {
		t.Fatalf("pin: %d to %q with cookie %q, want to %q", pressed.Code, at, cookie, page)
	}
	for _, attribute := range []string{"HttpOnly", "SameSite=Strict"} {
		if !strings.Contains(pressed.Header().Get("Set-Cookie"), attribute) {
			t.Errorf("cookie %q is not %s", pressed.Header().Get("Set-Cookie"), attribute)
		}
	}
	if says(page) || says(page, "Cookie", noticeCookie+"=guessed") {
		t.Error("who has not the cookie is told")
	}
	if says("/images", "Cookie", cookie) || says(page, "Cookie", cookie, "Hx-Trigger", "live") {
		t.Error("another page, or one that asks for itself again, says it")
	}
	told := r.do("GET", at, "", "Cookie", cookie)
	if !strings.Contains(told.Body.String(), pinnedWords) || !strings.HasPrefix(told.Header().Get("Set-Cookie"), noticeCookie+"=;") {
		t.Errorf("it is not said: %v %s", told.Header(), told.Body)
	}
	if says(at, "Cookie", cookie) {
		t.Error("it is said again")
	}
}

// TestRetryIsSaid: how many jobs are tried again is said by the page of jobs.
func TestRetryIsSaid(t *testing.T) {
	r := newRig(t, nil)
	w := r.do("POST", "/jobs/retry", "id=", "Content-Type", "application/x-www-form-urlencoded")
	if w.Code != http.StatusSeeOther {
		t.Fatalf("retry: %d %s", w.Code, w.Body)
	}
	if body := r.do("GET", "/jobs", "", "Cookie", cookieOf(w)).Body.String(); !strings.Contains(body, `data-say="1 job will be tried again"`) {
		t.Errorf("it is not said: %s", body)
	}
}

// TestMany: one of something is not several.
func TestMany(t *testing.T) {
	for n, want := range map[any]string{0: "0 layers", 1: "1 layer", 2: "2 layers", int64(1): "1 layer", 1234: "1\u202f234 layers"} {
		if got := many(n, "layer"); got != want {
			t.Errorf("many(%v) = %q, want %q", n, got, want)
		}
	}
	r := newRig(t, nil)
	if body := r.do("GET", "/images", "").Body.String(); !strings.Contains(body, `1 image, 1 to 1</p>`) {
		t.Errorf("the list counts its image so: %s", body)
	}
}
