package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sociable/sociable/storage"
)

// answered is an answer other than 2xx.
type answered struct{ status int }

func (e *answered) Error() string {
	return fmt.Sprintf("the endpoint answered %d %s", e.status, http.StatusText(e.status))
}

// trouble is what keeps an endpoint from taking events, in the words of the log.
type trouble string

const (
	// troubleAway passes by itself, and is waited for.
	troubleAway trouble = "endpoint does not take events, they wait"
	// troubleElsewhere is mended by an operator, and is waited for, too: the address or
	// the credentials are wrong, and no event is at fault.
	troubleElsewhere trouble = "endpoint lets nothing in, events wait: look at its url, token_file and headers"
	// troubleRefused is the event's own.
	troubleRefused trouble = "endpoint refuses an event, which is set aside if that goes on"
)

func troubleOf(err error) trouble {
	a, ok := errors.AsType[*answered](err)
	if !ok {
		return troubleAway
	}
	switch a.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return troubleRefused
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return troubleAway
	}
	if a.status >= 500 {
		return troubleAway
	}
	return troubleElsewhere
}

// refusal is how an endpoint has refused the event number, sent alone.
type refusal struct {
	number uint64
	times  int
	since  time.Time
	// aside is how many events were set aside since the endpoint last took one; took says
	// that it has taken one since it was in any other trouble, and known, that it has after
	// it refused one: it does refuse single events, and not all.
	aside       int
	took, known bool
}

// maxTogether is how many events that stand side by side are set aside at once. An
// endpoint that refuses more of them may refuse all.
const maxTogether = 10

// single reports whether what is refused now is that event's fault rather than the
// endpoint's. What one push is told by is refused together, mostly.
func (r *refusal) single() bool {
	return (r.known || r.took && r.aside > 0) && r.aside < maxTogether
}

// took notes that the endpoint took an envelope.
func (e *endpoint) took() {
	e.most = min(2*e.most, maxEvents)
	e.no.known, e.no.took, e.no.aside = e.no.known || e.no.aside > 0, true, 0
}

// fewer has the next envelope be smaller where one of rows is refused: so that is
// found.
func (e *endpoint) fewer(rows []storage.EventRow, err error) bool {
	if troubleOf(err) != troubleRefused || len(rows) < 2 {
		return false
	}
	e.most = len(rows) / 2
	return true
}

// refuses sets the event of rows aside where the endpoint has refused it for long
// enough, and reports whether it did.
func (e *endpoint) refuses(ctx context.Context, rows []storage.EventRow, err error) bool {
	if troubleOf(err) != troubleRefused {
		e.no.known, e.no.took = false, false
		return false
	}
	no := &e.no
	if row := rows[0]; no.number != row.Number {
		no.number, no.times, no.since = row.Number, 0, e.x.now()
	}
	no.times++
	if no.times < e.Threshold || !no.single() && e.x.now().Sub(no.since) < e.RefusedFor {
		return false
	}
	return e.setAside(ctx, rows[0], err)
}

// maxSetAside is how many events of an endpoint are kept that it refused; then the
// oldest go.
const maxSetAside = 1000

// setAside moves an event out of the way of others.
func (e *endpoint) setAside(ctx context.Context, row storage.EventRow, why error) bool {
	var kept, over int64
	err := e.x.store.Update(ctx, func(tx storage.Tx) error {
		kept, over = 0, 0
		name := storage.SetAside(e.Name)
		if err := tx.AddEvent(name, row.Body); err != nil {
			return err
		}
		var numbers []uint64
		err := tx.Events(name, 0, func(r storage.EventRow) error {
			numbers = append(numbers, r.Number)
			return nil
		})
		if n := len(numbers); err == nil && n > maxSetAside {
			over = int64(n - maxSetAside)
			err = tx.DeleteEvents(name, numbers[over-1])
		}
		if err != nil {
			return err
		}
		kept = int64(len(numbers)) - over
		return tx.DeleteEvents(e.Name, row.Number)
	})
	if err != nil {
		e.x.log.WarnContext(ctx, "event not set aside", "endpoint", e.Name, "err", err)
		return false
	}
	e.x.log.WarnContext(ctx, "event set aside: its endpoint refuses it; ignore_actions and ignore_media_types leave such out, and sociable events retry sends it again",
		append(about(row.Body), "endpoint", e.Name, "attempts", e.no.times, "kept", kept, "err", why)...)
	e.x.m.refused(e)
	e.x.m.dropped.WithLabelValues(e.Name).Add(float64(over))
	e.sent, e.fails, e.told = row.Number, 0, ""
	e.no = refusal{aside: e.no.aside + 1, took: e.no.took, known: e.no.known}
	e.queued.Add(-1)
	e.aside.Store(kept)
	return true
}

// countAside counts what is set aside, which an operator may take away.
func (e *endpoint) countAside(tx storage.Tx) error {
	if e.aside.Load() == 0 {
		return nil
	}
	var n int64
	err := tx.Events(storage.SetAside(e.Name), 0, func(storage.EventRow) error { n++; return nil })
	if err == nil {
		e.aside.Store(n)
	}
	return err
}

// about names an event in a line of the log.
func about(body []byte) []any {
	var r struct {
		ID, Action string
		Target     struct {
			Repository, Tag string
			Digest          string
		}
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return []any{"event", "unreadable"}
	}
	list := []any{"event", r.ID, "action", r.Action, "repo", r.Target.Repository}
	if r.Target.Tag != "" {
		list = append(list, "tag", r.Target.Tag)
	}
	return append(list, "digest", r.Target.Digest)
}
