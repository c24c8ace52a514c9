package ui

import (
	"errors"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestEventQueues: what endpoints were not told is in the API, too, and what they
// refused can be sent again or forgotten.
func TestEventQueues(t *testing.T) {
	r := newRig(t, nil)
	err := r.store.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(
			tx.AddEvent("ci", []byte(`{"id":"1","action":"push","target":{"repository":"local/app","tag":"7"}}`)),
			tx.AddEvent(storage.SetAside("ci"), []byte(`{"id":"2","action":"indexed"}`)),
			tx.AddEvent(storage.SetAside("mail"), []byte("no JSON")),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.asDocumented([]apiCase{
		{"GET", "/api/v1/events", "", 200, `[{"endpoint":"ci","waiting":1,"set_aside":1,"events":[{"id":"1","time":"0001-01-01T00:00:00Z","action":"push","repository":"local/app","tag":"7"},{"id":"2"`},
		{"POST", "/api/v1/events/retry", `{"endpoint":"ci"}`, 200, `{"events":1}`},
		{"POST", "/api/v1/events/retry", `{"endpoint":"ci"}`, 404, "no event is set aside"},
		{"POST", "/api/v1/events/retry", `{"endpoint":""}`, 400, "name the endpoint"},
		{"POST", "/api/v1/events/drop", `{"endpoint":"ci"}`, 404, "no event is set aside"},
		{"POST", "/api/v1/events/drop", `{"endpoint":"ci","waiting":true}`, 200, `{"events":2}`},
		{"POST", "/api/v1/events/drop", `{"endpoint":"mail"}`, 200, `{"events":1}`},
		{"GET", "/api/v1/events", "", 200, `[]`},
	})
}
