package faulty

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/sociable/sociable/e2e/link"
)

// site is where a fault happens.
type site struct {
	link      *link.Link
	size      int64  // of the object
	elsewhere string // another host that has the same
}

// fault is one kind of trouble, and what has to come of it for each of the
// operations: what the client sees, whether the object is stored afterwards, and
// how often the upstream was asked. The operations are, in three lines: HEAD and
// GET of a tag, GET of a manifest by digest; GET of a blob, and of a range of
// one that is not here; referrers, and HEAD of a blob. Where an upstream is fast
// and wrong, either of two answers may come first. Those over HTTP/2 are goAways.
type fault struct {
	name string
	make func(s site) []link.Fault
	want [7]string
}

func one(f link.Fault) func(site) []link.Fault {
	return func(site) []link.Fault { return []link.Fault{f} }
}

func challenge(s site) http.Header {
	return http.Header{"Www-Authenticate": {fmt.Sprintf(`Bearer realm="%s/token",service="x"`, s.link.URL())}}
}

var faults = []fault{
	{"none", func(site) []link.Fault { return nil }, [7]string{
		"200, -, 1", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
	{"wrong digest", func(s site) []link.Fault { return []link.Fault{{WrongBytes: []int64{s.size / 2}, Drip: 2 * s.size}} }, [7]string{
		"200, -, 1", "502 UNAVAILABLE, -, 1", "502 UNAVAILABLE, -, 1",
		"200 cut, -, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
	{"truncation", func(s site) []link.Fault { return []link.Fault{{Cut: s.size / 2, Ends: link.Short, Drip: 2 * s.size}} }, [7]string{
		"200 lies, -, 1", "502 UNAVAILABLE, -, 1", "502 UNAVAILABLE, -, 1",
		"200 cut, -, 1", "206, -, 1",
		"200 of 0 warned, -, 1", "200 lies, -, 1",
	}},
	{"cut once", func(s site) []link.Fault { return []link.Fault{{Times: 1, Cut: s.size / 4, Ends: link.Close}} }, [7]string{
		"200, -, 1", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 1",
	}},
	{"reset once", func(s site) []link.Fault { return []link.Fault{{Times: 1, Cut: s.size / 4, Ends: link.Reset}} }, [7]string{
		"200, -, 1", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 1",
	}},
	{"stall once", func(s site) []link.Fault { return []link.Fault{{Times: 1, Cut: s.size / 4, Ends: link.Stall}} }, [7]string{
		"200, -, 1", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 1",
	}},
	{"silence once", one(link.Fault{Times: 1, Silent: true}), [7]string{
		"200, -, 2", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 2",
	}},
	{"slow drip", func(s site) []link.Fault { return []link.Fault{{Drip: 2 * s.size}} }, [7]string{
		"200, -, 1", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
	{"401 for ever", func(s site) []link.Fault {
		return []link.Fault{{Status: 401, Header: challenge(s)}}
	}, [7]string{
		"403, -, 2", "403 DENIED, -, 2", "403 DENIED, -, 2",
		"403 DENIED, -, 2", "403 DENIED, -, 2",
		"200 of 0, -, 2", "403, -, 2",
	}},
	{"token expires in the middle", func(s site) []link.Fault {
		return []link.Fault{{Times: 1, Cut: s.size / 4, Ends: link.Close}, {Times: 1, Status: 401, Header: challenge(s)}}
	}, [7]string{
		"200, -, 1", "200, stored, 3", "200, stored, 3",
		"200, stored, 3", "206, -, 3",
		"200 of 1, -, 3", "200, -, 1",
	}},
	{"429 for long", one(link.Fault{Status: 429, Header: http.Header{"Retry-After": {"30"}}}), [7]string{
		"429, -, 1", "429 TOOMANYREQUESTS, -, 1", "429 TOOMANYREQUESTS, -, 1",
		"429 TOOMANYREQUESTS, -, 1", "429 TOOMANYREQUESTS, -, 1",
		"503 UNAVAILABLE, -, 1", "429, -, 1",
	}},
	{"429 for a moment", one(link.Fault{Times: 1, Status: 429, Header: http.Header{"Retry-After": {"1"}}}), [7]string{
		"200, -, 2", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 2",
	}},
	{"429 storm", one(link.Fault{Status: 429}), [7]string{
		"429, -, 3", "429 TOOMANYREQUESTS, -, 3", "429 TOOMANYREQUESTS, -, 3",
		"429 TOOMANYREQUESTS, -, 3", "429 TOOMANYREQUESTS, -, 3",
		"503 UNAVAILABLE, -, 3", "429, -, 3",
	}},
	{"another host", func(s site) []link.Fault { return []link.Fault{{Redirect: s.elsewhere}} }, [7]string{
		"200, -, 1", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
	{"redirect loop", func(s site) []link.Fault { return []link.Fault{{Redirect: s.link.URL()}} }, [7]string{
		"503, -, 11", "503 UNAVAILABLE, -, 11", "503 UNAVAILABLE, -, 11",
		"503 UNAVAILABLE, -, 11", "503 UNAVAILABLE, -, 11",
		"200 of 0 warned, -, 11", "503, -, 11",
	}},
	{"500 flaps", one(link.Fault{Times: 2, Status: 500}), [7]string{
		"200, -, 3", "200, stored, 3", "200, stored, 3",
		"200, stored, 3", "206, -, 3",
		"200 of 1, -, 3", "200, -, 3",
	}},
	{"500 for ever", one(link.Fault{Status: 500}), [7]string{
		"503, -, 3", "503 UNAVAILABLE, -, 3", "503 UNAVAILABLE, -, 3",
		"503 UNAVAILABLE, -, 3", "503 UNAVAILABLE, -, 3",
		"503 UNAVAILABLE, -, 3", "503, -, 3",
	}},
	{"refused once", one(link.Fault{Times: 1, Refuse: true}), [7]string{
		"200, -, 2", "200, stored, 2", "200, stored, 2",
		"200, stored, 2", "206, -, 2",
		"200 of 1, -, 2", "200, -, 2",
	}},
	{"refused for ever", one(link.Fault{Refuse: true}), [7]string{
		"503, -, 4", "503 UNAVAILABLE, -, 4", "503 UNAVAILABLE, -, 4",
		"503 UNAVAILABLE, -, 4", "503 UNAVAILABLE, -, 4",
		"503 UNAVAILABLE, -, 4", "503, -, 4",
	}},
	{"wrong Content-Length", one(link.Fault{Framing: link.LongSized}), [7]string{
		"200 lies, -, 1", "503 UNAVAILABLE, -, 3", "503 UNAVAILABLE, -, 3",
		"200 cut, -, 3", "503 UNAVAILABLE, -, 1",
		"503 UNAVAILABLE, -, 3", "200 lies, -, 1",
	}},
	{"no ranges", one(link.Fault{NoRange: true}), [7]string{
		"200, -, 1", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
	{"wrong Content-Range", one(link.Fault{On: link.Ranged, Header: http.Header{"Content-Range": {"bytes 5-9/10"}}}), [7]string{
		"200, -, 1", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "503 UNAVAILABLE, -, 1",
		"200 of 1, -, 1", "200, -, 1",
	}},
	{"huge", one(link.Fault{On: link.Method("GET"), Status: 200, Body: bytes.Repeat([]byte(" "), 5<<20)}), [7]string{
		"200, -, 1", "503 UNAVAILABLE, -, 1", "503 UNAVAILABLE, -, 1",
		"200 cut, -, 1 or 502 UNAVAILABLE, -, 1", "206 wrong, -, 1",
		"200 of 0 warned, -, 1", "200, -, 1",
	}},
	{"no length", one(link.Fault{Framing: link.Chunked}), [7]string{
		"200, -, 2", "200, stored, 1", "200, stored, 1",
		"200, stored, 1", "206, -, 1",
		"200 of 1, -, 1", "200, -, 2",
	}},
}
