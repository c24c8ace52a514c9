package web

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/storagetest"
)

// TestEventQueues: what waits for an endpoint and what was set aside is one queue,
// whatever the names of others.
func TestEventQueues(t *testing.T) {
	s := storagetest.NewStore(t)
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		errs := []error{}
		for _, queue := range []string{"ci", "ci-2", "ci.3", storage.SetAside("ci"), storage.SetAside("ci-2"), "cj"} {
			errs = append(errs, tx.AddEvent(queue, []byte(`{"id":"x"}`)))
		}
		for range shownEvents {
			errs = append(errs, tx.AddEvent("cj", []byte("{}")))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := EventQueues(t.Context(), s)
	want := []EventQueue{{Endpoint: "ci", Waiting: 1, SetAside: 1}, {Endpoint: "ci-2", Waiting: 1, SetAside: 1}, {Endpoint: "ci.3", Waiting: 1}, {Endpoint: "cj", Waiting: shownEvents + 1}}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(EventQueue{}, "Events")); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for i, n := range []int{2, 2, 1, shownEvents} {
		if len(list[i].Events) != n {
			t.Errorf("%s: %d events are listed, want %d", list[i].Endpoint, len(list[i].Events), n)
		}
	}
	if n, err := DropEvents(t.Context(), s, EventsRequest{Endpoint: "ci", Waiting: true}); err != nil || n.Events != 2 {
		t.Errorf("dropped %d, %v", n.Events, err)
	}
	if list, err = EventQueues(t.Context(), s); err != nil || len(list) != 3 {
		t.Errorf("after that %+v, %v", list, err)
	}
}
