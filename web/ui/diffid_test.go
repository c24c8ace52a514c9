package ui

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
)

// configDiffID is what the image's config says of the layer big.
var configDiffID = digest.FromString("as the config says").String()

// TestDiffID: where it was not computed the image's config tells it.
func TestDiffID(t *testing.T) {
	r := newRig(t, nil)
	row := r.big.Row
	for _, want := range []string{row.DiffID.String(), configDiffID} {
		if got := r.do("GET", "/api/v1/layers/"+row.Digest.String(), ""); !strings.Contains(got.Body.String(), `"diff_id":"`+want+`"`) {
			t.Errorf("%d %s, want diff_id %s", got.Code, got.Body, want)
		}
		row.DiffID = ""
		if err := r.store.Update(t.Context(), func(tx storage.Tx) error { return tx.PutLayer(row) }); err != nil {
			t.Fatal(err)
		}
	}
}
