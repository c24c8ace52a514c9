package oci

import v1 "github.com/opencontainers/image-spec/specs-go/v1"

// EventKind is what happened. The first four are the actions of the
// distribution project's notifications.
type EventKind string

// EventIndexed is told of an image whose SOCI index was listed, EventSkipped of a
// layer that will not have a zTOC, EventPublished of an index that was pushed to
// the image's upstream, EventEvicted of bytes that had to make room.
const (
	EventPull    EventKind = "pull"
	EventPush    EventKind = "push"
	EventMount   EventKind = "mount"
	EventDelete  EventKind = "delete"
	EventIndexed EventKind = "indexed"
	EventSkipped EventKind = "index-skipped"
	EventEvicted EventKind = "evicted"

	EventPublished EventKind = "index-published"
)

// EventKinds are all of them.
var EventKinds = []EventKind{EventPull, EventPush, EventMount, EventDelete, EventIndexed, EventSkipped, EventPublished, EventEvicted}

// Event is something that happened to content of a repository.
type Event struct {
	Kind       EventKind
	Repo       Repo
	FromRepo   Repo            // where a blob was mounted from
	Tag        string          // by which it was asked for or pushed, if any
	Target     v1.Descriptor   // what it happened to; only Digest is always known
	References []v1.Descriptor // what a manifest names
	Reason     string          // of EventSkipped
	Request    *EventRequest   // nil where no request brought it about
}

// EventRequest is the request that brought an event about.
type EventRequest struct {
	ID, Addr, Method, UserAgent string
	Scheme, Host                string // under which the client reached us
	Actor                       string // who it is, where that was asked for
}
