package access

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxAuthorization bounds the header that is looked at. Tokens of a server that
// lists many rights in them come to some thousand bytes.
const maxAuthorization = 16 << 10

// credentials are what a request says about its sender; all "" where it says
// nothing.
type credentials struct {
	user, password string
	token          string // of the Bearer scheme
}

func (c credentials) none() bool { return c == credentials{} }

var (
	errHeader = errors.New("the Authorization header is malformed")
	errScheme = errors.New("the Authorization header's scheme is neither Basic nor Bearer")
)

// parseAuthorization reads the one Authorization header of h (RFC 9110 §11.6.2,
// RFC 7617, RFC 6750 §2.1).
func parseAuthorization(h http.Header) (credentials, error) {
	values := h.Values("Authorization")
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return credentials{}, nil
	}
	if len(values) > 1 || len(values[0]) > maxAuthorization {
		return credentials{}, errHeader
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	rest = strings.Trim(rest, " ")
	switch {
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(rest)
	case strings.EqualFold(scheme, "Bearer"):
		if rest == "" || strings.Trim(rest, tokenBytes) != "" {
			return credentials{}, errHeader
		}
		return credentials{token: rest}, nil
	default:
		return credentials{}, errScheme
	}
}

// tokenBytes are those of token68 (RFC 9110 §11.2).
const tokenBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="

func parseBasic(s string) (credentials, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(s); err != nil {
			return credentials{}, errHeader
		}
	}
	user, password, ok := strings.Cut(string(raw), ":")
	if !ok || user == "" || !utf8.ValidString(user) || strings.ContainsFunc(user, isControl) || strings.ContainsRune(password, 0) {
		return credentials{}, errHeader
	}
	return credentials{user: user, password: password}, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
