package access

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseAuthorization(t *testing.T) {
	for name, tt := range map[string]struct {
		values []string
		want   credentials
		err    error
	}{
		"none":                 {},
		"empty":                {values: []string{""}},
		"basic":                {values: []string{basic("u:p")}, want: credentials{user: "u", password: "p"}},
		"colons in a password": {values: []string{basic("u:p:q:")}, want: credentials{user: "u", password: "p:q:"}},
		"empty password":       {values: []string{basic("u:")}, want: credentials{user: "u"}},
		"lower case":           {values: []string{"basic dTpw"}, want: credentials{user: "u", password: "p"}},
		"without padding":      {values: []string{"Basic dTpwcQ"}, want: credentials{user: "u", password: "pq"}},
		"not ASCII":            {values: []string{basic("jürgen:pä")}, want: credentials{user: "jürgen", password: "pä"}},
		"bearer":               {values: []string{"Bearer a.b-c_d~e+f/g="}, want: credentials{token: "a.b-c_d~e+f/g="}},
		"bearer, shouted":      {values: []string{"BEARER  abc "}, want: credentials{token: "abc"}},
		"two":                  {values: []string{basic("u:p"), "Bearer x"}, err: errHeader},
		"long":                 {values: []string{"Bearer " + strings.Repeat("a", maxAuthorization)}, err: errHeader},
		"no colon":             {values: []string{basic("up")}, err: errHeader},
		"no user":              {values: []string{basic(":p")}, err: errHeader},
		"newline in the user":  {values: []string{basic("u\nx:p")}, err: errHeader},
		"zero byte":            {values: []string{basic("u:p\x00q")}, err: errHeader},
		"not UTF-8":            {values: []string{basic("\xff:p")}, err: errHeader},
		"not base64":           {values: []string{"Basic !"}, err: errHeader},
		"basic alone":          {values: []string{"Basic"}, err: errHeader},
		"bearer alone":         {values: []string{"Bearer "}, err: errHeader},
		"bearer with a comma":  {values: []string{"Bearer a,b"}, err: errHeader},
		"another scheme":       {values: []string{"Negotiate abc"}, err: errScheme},
		"no scheme":            {values: []string{" x"}, err: errScheme},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseAuthorization(http.Header{"Authorization": tt.values})
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) || got != tt.want {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Basic dTpw", "Bearer abc", "Basic", "basic  dTpw ", "Digest x", "Basic dTpwcQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseAuthorization(http.Header{"Authorization": {s}})
		switch {
		case err != nil:
			if !got.none() {
				t.Errorf("%q: %v, and yet %+v", s, err, got)
			}
		case got.none():
			if s != "" {
				t.Errorf("%q: nothing, without an error", s)
			}
		case got.token == "" && got.user == "", got.token != "" && got.user+got.password != "":
			t.Errorf("%q: %+v", s, got)
		case strings.Contains(got.user, ":"), strings.ContainsFunc(got.user, isControl):
			t.Errorf("%q: user %q", s, got.user)
		case got.user != "":
			again, err := parseAuthorization(http.Header{"Authorization": {basic(got.user + ":" + got.password)}})
			if err != nil || again != got {
				t.Errorf("%q: written again, %+v, %v; want %+v", s, again, err, got)
			}
		}
	})
}

func TestParseScopes(t *testing.T) {
	for _, tt := range []struct {
		in   []string
		want []scope
		bad  bool
	}{
		{in: nil},
		{in: []string{""}},
		{in: []string{"repository:a/b:pull"}, want: []scope{{"repository", "a/b", []string{"pull"}}}},
		{in: []string{"repository:host:5000/a:pull,push"}, want: []scope{{"repository", "host:5000/a", []string{"pull", "push"}}}},
		{in: []string{"repository:a:", "repository:b:,pull,"}, want: []scope{{"repository", "a", nil}, {"repository", "b", []string{"pull"}}}},
		{in: []string{" repository(plugin):a:*  registry:catalog:* "}, want: []scope{{"repository", "a", []string{"*"}}, {"registry", "catalog", []string{"*"}}}},
		{in: []string{"repository"}, bad: true},
		{in: []string{"repository:pull"}, bad: true},
		{in: []string{":a:pull"}, bad: true},
		{in: []string{"repository::pull"}, bad: true},
		{in: []string{strings.Repeat("repository:a:pull ", maxScopes+1)}, bad: true},
		{in: []string{"repository:" + strings.Repeat("a", maxScopeBytes) + ":pull"}, bad: true},
	} {
		got, err := parseScopes(tt.in)
		if (err != nil) != tt.bad {
			t.Errorf("%q: %v", tt.in, err)
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(scope{})); diff != "" && !tt.bad {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func FuzzScopes(f *testing.F) {
	for _, s := range []string{"", "repository:a/b:pull,push", "repository:h:5/a:*", "registry:catalog:*", "a b", "repository(plugin):x:pull repository:y:delete"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseScopes([]string{s})
		if err != nil {
			return
		}
		if len(got) > maxScopes {
			t.Errorf("%d scopes", len(got))
		}
		for _, x := range got {
			if x.kind == "" && !strings.HasPrefix(s, "(") && !strings.Contains(s, "(") || x.name == "" {
				t.Errorf("%q: %+v", s, x)
			}
			if w := x.wants(); len(w) > len(allActions) || len(w) > 0 && x.kind != "repository" {
				t.Errorf("%q wants %v", s, w)
			}
		}
	})
}
