package faulty

import (
	"net/http"
	"testing"

	"github.com/sociable/sociable/e2e/link"
)

// goAways are the faults of an upstream that speaks HTTP/2 over TLS and ends its
// connections by GOAWAY (RFC 9113 §6.8), as load balancers do that move clients on
// or go away themselves.
var goAways = []fault{
	{"GOAWAY in the middle", func(s site) []link.Fault { return []link.Fault{{Times: 1, Cut: s.size / 4, Ends: link.GoAway}} }, [7]string{
		"200, -, 1", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 1",
	}},
	{"GOAWAY instead of an answer", one(link.Fault{Times: 1, Refuse: true, Ends: link.GoAway}), [7]string{
		"200, -, 2", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 2",
	}},
	{"GOAWAY behind every answer", one(link.Fault{Header: http.Header{"Connection": {"close"}}}), [7]string{
		"200, -, 1", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
}

// startSecureLink is startLink for a link that speaks HTTP/2 over TLS with r's
// certificate.
func startSecureLink(t *testing.T, r *Registry) *link.Link {
	t.Helper()
	l, err := link.Start(r.URL(), link.Options{Certificate: &r.Server().TLS.Certificates[0]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
