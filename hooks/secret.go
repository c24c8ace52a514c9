package hooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// shows reports whether a request holds one of secrets: in Authorization, as a
// bearer token, a password, or as it is (Harbor sends what it was given), or as
// token= of its query, for those who can set nothing else (Docker Hub).
func shows(r *http.Request, secrets []string) bool {
	var shown []string
	if h := r.Header.Get("Authorization"); h != "" {
		shown = append(shown, h)
		if scheme, token, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
			shown = append(shown, strings.TrimSpace(token))
		}
		if _, password, ok := r.BasicAuth(); ok {
			shown = append(shown, password)
		}
	}
	if token := r.URL.Query().Get("token"); token != "" {
		shown = append(shown, token)
	}
	return anyEqual(shown, secrets)
}

// anyEqual compares each with each, in a time that tells nothing about how much
// of one was right, nor how long it is.
func anyEqual(shown, secrets []string) bool {
	found := 0
	for _, a := range shown {
		x := sha256.Sum256([]byte(a))
		for _, b := range secrets {
			y := sha256.Sum256([]byte(b))
			found |= subtle.ConstantTimeCompare(x[:], y[:])
		}
	}
	return found == 1
}

// wellFormed reports whether signature could be one.
func wellFormed(signature string) bool {
	text, ok := strings.CutPrefix(signature, "sha256=")
	mac, err := hex.DecodeString(text)
	return ok && err == nil && len(mac) == sha256.Size
}

// signed reports whether signature is that of body, as GitHub makes it: sha256=
// and the HMAC in hexadecimal.
func signed(signature string, body []byte, secrets []string) bool {
	text, ok := strings.CutPrefix(signature, "sha256=")
	mac, err := hex.DecodeString(text)
	if !ok || err != nil {
		return false
	}
	found := false
	for _, s := range secrets {
		h := hmac.New(sha256.New, []byte(s))
		_, _ = h.Write(body) // a hash takes all
		found = hmac.Equal(h.Sum(nil), mac) || found
	}
	return found
}
