package ui

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/sociable/sociable/storage"
)

// Checkpoint is where decompression can begin: at the start of each span.
type Checkpoint struct {
	Span         int   `json:"span"`
	Compressed   int64 `json:"compressed_offset"`
	Uncompressed int64 `json:"uncompressed_offset"`
	Bits         int   `json:"bits"` // of the byte before, that belong to the span
}

// Checkpoints is a page of a layer's.
type Checkpoints struct {
	Checkpoints []Checkpoint `json:"checkpoints"`
	Total       int          `json:"total"`
	Offset      int          `json:"offset"`
	Limit       int          `json:"limit"`
}

const shownCheckpoints = 100

func (u *UI) checkpoints(r *http.Request) (*Checkpoints, error) {
	d, err := digestOf(r)
	if err != nil {
		return nil, err
	}
	c := &Checkpoints{Checkpoints: []Checkpoint{}}
	if c.Offset, err = number(r, "offset", 0, 1<<31-1); err != nil {
		return nil, err
	}
	if c.Limit, err = number(r, "limit", shownCheckpoints, 10_000); err != nil {
		return nil, err
	}
	v, err := u.look(r.Context(), d, r.FormValue("image"))
	if err != nil || v.State != storage.LayerIndexed {
		return c, err
	}
	z, err := u.openTable(r.Context(), v.use())
	if errors.Is(err, errNoFiles) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	defer z.close()
	list, err := z.Checkpoints()
	if err != nil {
		return nil, err
	}
	c.Total = len(list)
	for i := c.Offset; i < min(c.Offset+c.Limit, c.Total); i++ {
		c.Checkpoints = append(c.Checkpoints, Checkpoint{i, list[i].In, list[i].Out, list[i].Bits})
	}
	return c, nil
}

// disposition has a browser save a file under its name, however that is spelt.
func disposition(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	if s := mime.FormatMediaType("attachment", map[string]string{"filename": name}); s != "" {
		return s
	}
	return "attachment"
}
