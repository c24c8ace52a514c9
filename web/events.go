package web

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// EventQueue is what has not been told to an endpoint of events.endpoints.
type EventQueue struct {
	Endpoint string  `json:"endpoint"`
	Waiting  int     `json:"waiting"`   // sent until the endpoint takes them
	SetAside int     `json:"set_aside"` // that it refused; sent again only when somebody says so
	Events   []Event `json:"events"`    // the oldest of either kind, what waits first
}

// Event is a notification that an endpoint has not taken.
type Event struct {
	ID         string        `json:"id"`
	Time       time.Time     `json:"time"`
	Action     string        `json:"action"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	SetAside   bool          `json:"set_aside,omitempty"`
}

// shownEvents is how many of a queue's events are listed, of either kind.
const shownEvents = 100

// EventQueues lists the queues that have anything, by endpoint.
func EventQueues(ctx context.Context, v Viewer) ([]EventQueue, error) {
	list := []EventQueue{}
	err := v.View(ctx, func(tx storage.Tx) error {
		list = []EventQueue{}
		return tx.EventEndpoints(func(queue string) error {
			endpoint, aside := storage.EndpointOf(queue)
			i := slices.IndexFunc(list, func(q EventQueue) bool { return q.Endpoint == endpoint }) // names of others may stand between
			if i < 0 {
				i, list = len(list), append(list, EventQueue{Endpoint: endpoint, Events: []Event{}})
			}
			q, n := &list[i], 0
			err := tx.Events(queue, 0, func(row storage.EventRow) error {
				if n++; n <= shownEvents {
					q.Events = append(q.Events, eventOf(row, aside))
				}
				return ctx.Err()
			})
			if aside {
				q.SetAside = n
			} else {
				q.Waiting = n
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return list, nil
}

func eventOf(row storage.EventRow, aside bool) Event {
	var x struct {
		ID        string
		Timestamp time.Time
		Action    string
		Target    struct {
			Repository, Tag string
			Digest          digest.Digest
		}
	}
	_ = json.Unmarshal(row.Body, &x) // what can't be read is shown as far as it can
	return Event{x.ID, x.Timestamp, x.Action, x.Target.Repository, x.Target.Tag, x.Target.Digest, aside}
}

// EventsRequest is about the queue of one endpoint.
type EventsRequest struct {
	Endpoint string `json:"endpoint"`
	Waiting  bool   `json:"waiting,omitempty"` // drop what waits, too
}

// EventsChanged is what came of it.
type EventsChanged struct {
	Events int `json:"events"`
}

// RetryEvents has what an endpoint refused be sent to it again, behind what waits.
// storage.ErrNotFound where nothing was set aside.
func RetryEvents(ctx context.Context, s *storage.Store, q EventsRequest) (EventsChanged, error) {
	return takeEvents(ctx, s, storage.SetAside(q.Endpoint), "set aside for", q.Endpoint, func(tx storage.Tx, row storage.EventRow) error {
		return tx.AddEvent(q.Endpoint, row.Body)
	})
}

// DropEvents forgets what an endpoint refused, and with q.Waiting what it has not
// taken yet, for good. storage.ErrNotFound where there is nothing.
func DropEvents(ctx context.Context, s *storage.Store, q EventsRequest) (EventsChanged, error) {
	n, err := takeEvents(ctx, s, storage.SetAside(q.Endpoint), "set aside for", q.Endpoint, nil)
	if !q.Waiting || err != nil && ignoreNotFound(err) != nil {
		return n, err
	}
	more, werr := takeEvents(ctx, s, q.Endpoint, "kept for", q.Endpoint, nil)
	if n.Events += more.Events; n.Events > 0 {
		return n, ignoreNotFound(werr)
	}
	return n, werr
}

// takeEvents takes all events off a queue, in one transaction with what do, if it is
// not nil, does about each.
func takeEvents(ctx context.Context, s *storage.Store, queue, what, endpoint string, do func(storage.Tx, storage.EventRow) error) (x EventsChanged, err error) {
	err = s.Update(ctx, func(tx storage.Tx) error {
		x.Events = 0
		var rows []storage.EventRow
		err := tx.Events(queue, 0, func(row storage.EventRow) error {
			if x.Events++; do != nil {
				rows = append(rows, row)
			}
			return ctx.Err()
		})
		if err == nil && x.Events == 0 {
			err = isNotHere("no event is %s an endpoint %.100q", what, endpoint)
		}
		for _, row := range rows {
			if err == nil {
				err = do(tx, row)
			}
		}
		if err != nil {
			return err
		}
		return tx.DeleteEvents(queue, math.MaxUint64)
	})
	if err != nil {
		return EventsChanged{}, err
	}
	return x, nil
}

func (s *Web) eventRoutes(get, post *mux.Router) {
	get.Path("/api/v1/events").Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
		list, err := EventQueues(r.Context(), s.opt.Store)
		if err != nil {
			return err
		}
		return sendJSON(w, list)
	}))
	change := func(word string, do func(context.Context, *storage.Store, EventsRequest) (EventsChanged, error)) {
		post.Path("/api/v1/events/" + word).Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
			var q EventsRequest
			if err := receive(w, r, &q); err != nil {
				return err
			}
			n, err := do(r.Context(), s.opt.Store, q)
			if err != nil {
				return operatorError(err)
			}
			s.log.InfoContext(r.Context(), "events changed", "command", word, "endpoint", q.Endpoint, "events", n.Events)
			return sendJSON(w, n)
		}))
	}
	change("retry", RetryEvents)
	change("drop", DropEvents)
}
