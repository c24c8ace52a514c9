package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/sociable/sociable/internal/oci"
)

// ErrNoCatalog says that an upstream does not list its repositories, or not to
// us.
var ErrNoCatalog = errors.New("it does not list its repositories")

// maxCatalogBytes bounds one page of repositories.
const maxCatalogBytes = 4 << 20

// Catalog lists up to n repositories behind last, "" being the first, as the
// distribution project's registry does ("Catalog"). more reports that there are
// others. What is no repository's name is left out. ErrNoCatalog.
func (c *Client) Catalog(ctx context.Context, n int, last string) (names []string, more bool, err error) {
	q := &request{
		op: opCatalog, method: http.MethodGet, path: "_catalog", query: url.Values{"n": {strconv.Itoa(n)}},
		only: c.ends[len(c.ends)-1], // a mirror may have less, or others
	}
	if last != "" {
		q.query.Set("last", last)
	}
	body, a, err := c.read(ctx, q, maxCatalogBytes)
	if noReferrersAPI(err) || IsDenied(err) { // as with any path that is not known
		return nil, false, fmt.Errorf("upstream %s: %w: %w", c.opt.Name, ErrNoCatalog, err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list repositories: %w", err)
	}
	var doc struct {
		Repositories []string `json:"repositories"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, false, &ProtocolError{Upstream: c.opt.Name, Op: string(opCatalog), Reason: "the list is not JSON"}
	}
	names, more = doc.Repositories, nextLink(a.Header) != ""
	// Some registries always give the whole list.
	if i := slices.Index(names, last); last != "" && i >= 0 {
		names = names[i+1:]
	}
	names = slices.DeleteFunc(names, func(name string) bool { return oci.CheckName(name) != nil })
	return names, more, nil
}
