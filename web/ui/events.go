package ui

import (
	"context"
	"net/http"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

func (u *UI) eventRoutes() []apiRoute {
	return []apiRoute{
		{"GET", "/events", "", answer(func(r *http.Request) (*[]web.EventQueue, error) {
			list, err := web.EventQueues(r.Context(), u.opt.Store)
			return &list, err
		})},
		{"POST", "/events/retry", "", answer(u.changeEvents("retry", web.RetryEvents))},
		{"POST", "/events/drop", "", answer(u.changeEvents("drop", web.DropEvents))},
	}
}

// changeEvents is a request about the queue of the endpoint that its body names.
func (u *UI) changeEvents(command string, do func(context.Context, *storage.Store, web.EventsRequest) (web.EventsChanged, error)) func(*http.Request) (*web.EventsChanged, error) {
	return func(r *http.Request) (*web.EventsChanged, error) {
		var q web.EventsRequest
		if err := receive(r, &q); err != nil {
			return nil, err
		}
		if q.Endpoint == "" {
			return nil, bad("name the endpoint")
		}
		n, err := do(r.Context(), u.opt.Store, q)
		if err != nil {
			return nil, web.OperatorError(err)
		}
		u.log.InfoContext(r.Context(), "events changed", "command", command, "endpoint", q.Endpoint, "events", n.Events)
		return &n, nil
	}
}
