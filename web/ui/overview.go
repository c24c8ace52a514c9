package ui

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web/catalog"
	"github.com/sociable/sociable/web/series"
	"github.com/sociable/sociable/web/trouble"
)

// Overview is how the proxy does.
type Overview struct {
	Time      time.Time      `json:"time"`
	Range     series.Range   `json:"range"` // that numbers and charts are about
	Traffic   Traffic        `json:"traffic"`
	Store     Stored         `json:"store"`
	Images    catalog.Totals `json:"images"`
	Loading   bool           `json:"loading,omitempty"` // images are still being counted
	Upstreams []Health       `json:"upstreams"`
	Queue     Queue          `json:"queue"`
	Failures  Failures       `json:"failures"`
	Charts    []Chart        `json:"charts"`

	Hosted  []storage.NamespaceUse `json:"hosted"` // how full the hosted namespaces are
	Uploads Uploading              `json:"uploads"`
}

// Traffic is what was asked for and where it came from.
type Traffic struct {
	Requests      int64    `json:"requests"`
	HitRatio      *float64 `json:"hit_ratio"`      // of manifests and blobs, without an upstream's bytes; null where none was asked for
	ByteRatio     *float64 `json:"byte_hit_ratio"` // of bytes sent
	SentBytes     int64    `json:"sent_bytes"`
	UpstreamBytes int64    `json:"upstream_bytes"`
	SavedBytes    int64    `json:"saved_bytes"` // sent, and not taken from upstreams
}

// Stored is what the store holds.
type Stored struct {
	Bytes int64   `json:"bytes"`
	Limit int64   `json:"limit"` // 0: none
	Kinds []Kind  `json:"kinds"`
	Used  float64 `json:"used"` // of the limit; 0 where there is none
}

// Kind is a part of it.
type Kind struct {
	Name  string `json:"name"`
	Blobs int64  `json:"blobs"`
	Bytes int64  `json:"bytes"`
}

// Health is how one endpoint of an upstream does.
type Health struct {
	Upstream  string `json:"upstream"`
	Endpoint  string `json:"endpoint"`
	State     string `json:"state"` // ok, offline, held (it asked for a pause), down (it does not answer), probed (whether it does again is being found out)
	Why       string `json:"why,omitempty"`
	Seconds   int64  `json:"seconds_left,omitempty"` // until that may change
	Remaining *int64 `json:"ratelimit_remaining"`    // pulls that it says are left; null where it says nothing
	Limit     *int64 `json:"ratelimit_limit"`
}

// Failures are those of the last hour.
type Failures struct {
	Requests int64           `json:"requests"` // answered with 5xx
	Upstream int64           `json:"upstream"` // requests to upstreams without a good answer
	Indexing int64           `json:"indexing"` // attempts to index a layer, or to convert, push or fetch an image
	Troubles []trouble.Entry `json:"troubles"` // warnings and errors of the log, newest first
}

// Chart is one measure over the range.
type Chart struct {
	Name  string    `json:"name"`
	Title string    `json:"title"`
	Unit  string    `json:"unit"` // bytes, bytes/s, requests/s, ratio, layers, jobs
	Start time.Time `json:"start"`
	Step  int64     `json:"step_seconds"`
	Lines []Line    `json:"lines"`
}

// Line is one line of it; null where nothing was measured.
type Line struct {
	Name   string     `json:"name"`
	Points []*float64 `json:"points"`
}

func parseRange(s string) (series.Range, error) {
	if s == "" {
		return series.Hour, nil
	}
	if r := series.Range(s); slices.Contains(series.Ranges, r) {
		return r, nil
	}
	return "", bad("range is 1h, 24h or 7d, not %.20q", s)
}

// bad is an error of a parameter.
func bad(format string, args ...any) error {
	return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

func (u *UI) overview(r *http.Request) (*Overview, error) {
	rg, err := parseRange(r.FormValue("range"))
	if err != nil {
		return nil, err
	}
	s := u.opt.Recorder.Series(rg)
	o := &Overview{Time: u.now().UTC(), Range: rg, Traffic: traffic(s), Charts: charts(s, u.now())}
	use := u.opt.Store.Usage()
	o.Store, o.Uploads = stored(use), Uploading{use.Open.Uploads, use.Open.Bytes}
	var complete bool
	o.Images, complete = u.opt.Catalog.Totals()
	o.Loading = !complete
	o.Upstreams = u.health()
	if o.Hosted, err = u.namespaces(r.Context()); err != nil {
		return nil, err
	}
	if o.Queue, err = u.queue(r.Context()); err != nil {
		return nil, err
	}
	hour := s
	if rg != series.Hour {
		hour = u.opt.Recorder.Series(series.Hour)
	}
	o.Failures = Failures{
		Requests: int64(hour.Sum(series.Failures)), Upstream: int64(hour.Sum(series.UpstreamFailures)),
		Indexing: int64(hour.Sum(series.IndexFailures)), Troubles: u.opt.Trouble.Entries(),
	}
	return o, nil
}

func traffic(s *series.Series) Traffic {
	t := Traffic{
		Requests: int64(s.Sum(series.Requests)), SentBytes: int64(s.Sum(series.Sent)), UpstreamBytes: int64(s.Sum(series.Fetched)),
	}
	t.SavedBytes = max(0, t.SentBytes-t.UpstreamBytes)
	t.HitRatio = ratio(s.Sum(series.Hits), s.Sum(series.Asked))
	t.ByteRatio = ratio(float64(t.SavedBytes), float64(t.SentBytes))
	return t
}

func ratio(n, of float64) *float64 {
	if of <= 0 {
		return nil
	}
	x := min(1, n/of)
	return &x
}

// kindNames say in words what is stored; the order is that of the page.
var kindNames = []struct {
	kind storage.Kind
	name string
}{
	{storage.KindBlob, "whole blobs"}, {storage.KindHosted, "pushed blobs"}, {storage.KindSpan, "spans"}, {storage.KindHot, "imported spans"},
	{storage.KindZTOC, "zTOCs"}, {storage.KindIndex, "SOCI indexes"}, {storage.KindManifest, "manifests"},
}

func stored(x storage.Usage) Stored {
	s := Stored{Bytes: x.Total(), Limit: x.Limit}
	for _, k := range kindNames {
		s.Kinds = append(s.Kinds, Kind{k.name, x.Blobs[k.kind], x.Bytes[k.kind]})
	}
	s.Kinds = append(s.Kinds, Kind{"arriving", 0, x.Partial})
	if s.Limit > 0 {
		s.Used = float64(s.Bytes) / float64(s.Limit)
	}
	return s
}

// health puts together what upstreams' clients and the metrics know.
func (u *UI) health() []Health {
	list := []Health{}
	if u.opt.Health == nil {
		return list
	}
	left := u.rateLimits()
	for _, h := range u.opt.Health() {
		x := Health{State: h.State, Why: h.Why, Seconds: int64(h.Left / time.Second)}
		x.Upstream, x.Endpoint, _ = strings.Cut(strings.TrimPrefix(h.Name, "upstream "), " ")
		if l, ok := left[x.Upstream+" "+x.Endpoint]; ok {
			x.Remaining, x.Limit = l.remaining, l.limit
		}
		list = append(list, x)
	}
	slices.SortStableFunc(list, func(a, b Health) int { return cmp.Compare(a.Upstream, b.Upstream) })
	return list
}

type rateLimit struct{ remaining, limit *int64 }

// rateLimits reads what endpoints say about their own limits, by upstream and
// endpoint.
func (u *UI) rateLimits() map[string]rateLimit {
	out := map[string]rateLimit{}
	families, err := u.opt.Gatherer.Gather()
	if err != nil {
		u.log.Debug("not all metrics could be read", "err", err)
	}
	for _, f := range families {
		name, ok := strings.CutPrefix(f.GetName(), "sociable_upstream_ratelimit_")
		if !ok || name != "remaining" && name != "limit" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			v := int64(m.GetGauge().GetValue())
			key := labels["upstream"] + " " + labels["endpoint"]
			x := out[key]
			if name == "limit" {
				x.limit = &v
			} else {
				x.remaining = &v
			}
			out[key] = x
		}
	}
	return out
}

// charts draws what was measured.
func charts(s *series.Series, now time.Time) []Chart {
	rate := func(n series.Name) []*float64 {
		list := points(s, n, 1/s.Step.Seconds())
		if last := list[len(list)-1]; last != nil { // of a step that is not over
			*last *= s.Step.Seconds() / min(s.Step.Seconds(), max(now.Sub(s.End).Seconds()+s.Step.Seconds(), s.Step.Seconds()/4))
		}
		return list
	}
	hits := make([]*float64, series.Points)
	for i := range hits {
		h, ok := s.At(series.Hits, i)
		if a, _ := s.At(series.Asked, i); ok && a > 0 {
			hits[i] = ratio(h, a)
		}
	}
	list := []Chart{
		{Name: "bytes", Title: "Bytes", Unit: "bytes/s", Lines: []Line{{"to clients", rate(series.Sent)}, {"from upstreams", rate(series.Fetched)}}},
		{Name: "requests", Title: "Requests", Unit: "requests/s", Lines: []Line{{"requests", rate(series.Requests)}, {"failed", rate(series.Failures)}}},
		{Name: "hits", Title: "Hit ratio", Unit: "ratio", Lines: []Line{{"hit ratio", hits}}},
		{Name: "store", Title: "Cache", Unit: "bytes", Lines: []Line{{"stored", points(s, series.Stored, 1)}, {"of these spans", points(s, series.StoredSpans, 1)}}},
		{Name: "queue", Title: "Indexing queue", Unit: "jobs", Lines: []Line{{"to be done", points(s, series.Queue, 1)}}},
		{Name: "indexed", Title: "Layers indexed", Unit: "layers", Lines: []Line{{"indexed", points(s, series.Indexed, 1)}, {"failed", points(s, series.IndexFailures, 1)}}},
	}
	for i := range list {
		list[i].Start, list[i].Step = s.Time(0), int64(s.Step/time.Second)
	}
	return list
}

func points(s *series.Series, n series.Name, by float64) []*float64 {
	out := make([]*float64, series.Points)
	for i := range out {
		if v, ok := s.At(n, i); ok {
			v *= by
			out[i] = &v
		}
	}
	return out
}
