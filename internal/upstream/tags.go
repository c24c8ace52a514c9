package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/sociable/sociable/internal/oci"
)

// maxTagsBytes bounds one page of tags.
const maxTagsBytes = 4 << 20

// Tags lists up to n tags of repo behind last (distribution specification,
// "Listing Tags"); n <= 0 leaves the number to the upstream, last "" begins at
// the first. more reports that there are others behind them.
func (c *Client) Tags(ctx context.Context, repo string, n int, last string) (tags []string, more bool, err error) {
	tags, more, err = c.tags(ctx, repo, n, last)
	if err != nil {
		return nil, false, fmt.Errorf("list tags of %s: %w", repo, err)
	}
	return tags, more, nil
}

func (c *Client) tags(ctx context.Context, repo string, n int, last string) ([]string, bool, error) {
	if err := oci.CheckName(repo); err != nil {
		return nil, false, err
	}
	q := &request{op: opTags, method: http.MethodGet, repo: repo, path: "tags/list", query: url.Values{}}
	if n > 0 {
		q.query.Set("n", strconv.Itoa(n))
	}
	if last != "" {
		q.query.Set("last", last)
	}
	body, a, err := c.read(ctx, q, maxTagsBytes)
	if err != nil {
		return nil, false, err
	}
	var doc struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, false, &ProtocolError{Upstream: c.opt.Name, Op: string(opTags), Reason: "the list is not JSON"}
	}
	tags, more := doc.Tags, nextLink(a.Header) != ""
	// Some registries always give the whole list.
	if i := slices.Index(tags, last); last != "" && i >= 0 {
		tags = tags[i+1:]
	}
	if n > 0 && len(tags) > n {
		tags, more = tags[:n], true
	}
	return tags, more, nil
}
