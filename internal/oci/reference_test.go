package oci

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
)

// hasCode reports whether err is an Error of that code; a nil err has none.
func hasCode(err error, code errcode.ErrorCode) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

func TestCheckName(t *testing.T) {
	long := strings.Repeat("a", MaxNameLength)
	for name, ok := range map[string]bool{
		"redis": true, "library/redis": true, "a/b/c/d": true, "a.b": true, "a_b": true, "a__b": true, "a-b": true, "a---b": true,
		"0": true, "a1/2b": true, long: true,
		"": false, "/": false, "a/": false, "/a": false, "a//b": false, "A": false, "a.": false, ".a": false, "a..b": false,
		"a___b": false, "a_-b": false, "a._b": false, "-a": false, "a-": false, "_a": false, "../a": false, "a/../b": false, "a/./b": false,
		"a b": false, "a\nb": false, "a\n": false, "a%2fb": false, "a?b": false, "a#b": false, "a:b": false, "a@b": false, "é": false,
		"a\x00": false, "a\\b": false, long + "a": false,
	} {
		err := CheckName(name)
		if (err == nil) != ok || (err != nil && !hasCode(err, errcode.ErrorCodeNameInvalid)) {
			t.Errorf("%q: got %v, want valid %v", name, err, ok)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%q: the error repeats it all", name)
		}
	}
}

func TestParseRepo(t *testing.T) {
	for s, want := range map[string]Repo{
		"docker.io/library/redis":  {"docker.io", "library/redis"},
		"docker.io/redis":          {"docker.io", "redis"},
		"127.0.0.1:5000/a/b":       {"127.0.0.1:5000", "a/b"},
		"docker.io":                {},
		"/redis":                   {},
		"docker.io/":               {},
		"docker.io//redis":         {},
		"docker.io/library/../etc": {},
		"":                         {},
	} {
		got, err := ParseRepo(s)
		if want == (Repo{}) {
			if !hasCode(err, errcode.ErrorCodeNameInvalid) {
				t.Errorf("%q: got %v, %v; want NAME_INVALID", s, got, err)
			}
			continue
		}
		if err != nil || got != want || got.String() != s {
			t.Errorf("%q: got %+v, %v; want %+v", s, got, err, want)
		}
	}
}

func TestParseReference(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 8)
	for s, code := range map[string]errcode.ErrorCode{
		"latest": errcode.ErrorCodeUnknown, "V1.0_a-b": errcode.ErrorCodeUnknown, "_": errcode.ErrorCodeUnknown,
		strings.Repeat("a", 128): errcode.ErrorCodeUnknown, "sha256-abc": errcode.ErrorCodeUnknown,
		"sha256:" + hex[:64]: errcode.ErrorCodeUnknown, "sha512:" + hex: errcode.ErrorCodeUnknown,

		"": errcode.ErrorCodeTagInvalid, ".a": errcode.ErrorCodeTagInvalid, "-a": errcode.ErrorCodeTagInvalid,
		"a/b": errcode.ErrorCodeTagInvalid, "..": errcode.ErrorCodeTagInvalid, "a b": errcode.ErrorCodeTagInvalid,
		"a\n": errcode.ErrorCodeTagInvalid, "é": errcode.ErrorCodeTagInvalid, strings.Repeat("a", 129): errcode.ErrorCodeTagInvalid,

		":": errcode.ErrorCodeDigestInvalid, "sha256:": errcode.ErrorCodeDigestInvalid, ":" + hex[:64]: errcode.ErrorCodeDigestInvalid,
		"sha256:" + hex[:63]: errcode.ErrorCodeDigestInvalid, "sha256:" + hex[:65]: errcode.ErrorCodeDigestInvalid,
		"sha256:" + strings.ToUpper(hex[:64]): errcode.ErrorCodeDigestInvalid, "SHA256:" + hex[:64]: errcode.ErrorCodeDigestInvalid,
		"sha256:" + hex[:62] + "zz": errcode.ErrorCodeDigestInvalid, "sha256:../" + hex[:61]: errcode.ErrorCodeDigestInvalid,
		"sha384:" + hex[:96]: errcode.ErrorCodeDigestInvalid, "md5:" + hex[:32]: errcode.ErrorCodeDigestInvalid,
		"sha512:" + hex[:64]: errcode.ErrorCodeDigestInvalid, "sha256:" + hex[:64] + "\n": errcode.ErrorCodeDigestInvalid,
		"sha256:" + hex[:64] + ":x": errcode.ErrorCodeDigestInvalid,
	} {
		got, err := ParseReference(s)
		if code == errcode.ErrorCodeUnknown {
			if err != nil || got.String() != s || (got.Tag == "") == (got.Digest == "") {
				t.Errorf("%q: got %+v, %v", s, got, err)
			}
		} else if !hasCode(err, code) || got != (Reference{}) {
			t.Errorf("%q: got %+v, %v; want %v", s, got, err, code)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("latest")
	f.Add(string(digest.FromString("x")))
	f.Add("sha512:" + digest.SHA512.FromString("x").Encoded())
	f.Add("../../etc/passwd")
	safe := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._:-]*$`)
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if ref != (Reference{}) {
				t.Errorf("%q: got %+v beside %v", s, ref, err)
			}
			return
		}
		if ref.String() != s || (ref.Tag == "") == (ref.Digest == "") || !safe.MatchString(s) {
			t.Errorf("%q: got %+v", s, ref)
		}
	})
}

func FuzzParseRepo(f *testing.F) {
	f.Add("docker.io/library/redis")
	f.Add("a/../../b")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRepo(s)
		if err != nil {
			return
		}
		for _, part := range strings.Split(r.Name, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\\\x00%?#@: ") {
				t.Errorf("%q: %q is a segment", s, part)
			}
		}
		if again, err := ParseRepo(r.String()); err != nil || again != r {
			t.Errorf("%q: %+v is read back as %+v, %v", s, r, again, err)
		}
	})
}
