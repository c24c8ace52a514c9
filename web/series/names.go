package series

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Name is one thing that is measured.
type Name int

// Counters, of which a series has what was added in each step, and gauges, of
// which it has the last value. They are kept by their number: new ones are added
// at the end of their kind only with another format.
const (
	Requests         Name = iota // answered by the registry
	Failures                     // of these, with 5xx
	Asked                        // GET and HEAD of manifests and blobs that were found
	Hits                         // of these, without bytes from an upstream for this one
	Sent                         // bytes of bodies, to clients
	Fetched                      // bytes of blobs, from upstreams
	UpstreamRequests             //
	UpstreamFailures             // without an answer, or with 5xx or 429
	Indexed                      // layers that got a zTOC
	IndexFailures                // attempts to index a layer, or to do a task about an image; most are repeated
	Evicted                      // bytes
	Stored                       // gauge: bytes of all kinds
	StoredSpans                  // gauge: bytes of spans
	Queue                        // gauge: jobs in the queue that are not given up

	names = iota
)

const firstGauge = Stored

var words = [names]string{
	"requests", "failures", "asked", "hits", "sent_bytes", "fetched_bytes", "upstream_requests", "upstream_failures",
	"indexed", "index_failures", "evicted_bytes", "stored_bytes", "stored_span_bytes", "queue",
}

// String is the name as the API has it.
func (n Name) String() string { return words[n] }

// Names are all of them.
func Names() (all []Name) {
	for n := range Name(names) {
		all = append(all, n)
	}
	return all
}

// reading is every counter and gauge at one time.
type reading [names]float64

// sources say which metrics are added up to what is measured.
var sources = map[string]func(r *reading, label func(string) string, v float64){
	"sociable_proxy_requests_total": func(r *reading, label func(string) string, v float64) {
		r[Requests] += v
		if label("code") == "5xx" {
			r[Failures] += v
		}
		switch label("cache") {
		case "hit", "follow":
			r[Hits] += v
			r[Asked] += v
		case "span", "miss":
			r[Asked] += v
		}
	},
	"sociable_proxy_sent_bytes_total":     func(r *reading, _ func(string) string, v float64) { r[Sent] += v },
	"sociable_proxy_upstream_bytes_total": func(r *reading, _ func(string) string, v float64) { r[Fetched] += v },
	"sociable_upstream_requests_total": func(r *reading, label func(string) string, v float64) {
		r[UpstreamRequests] += v
		if c := label("code"); c == "error" || c == "429" || strings.HasPrefix(c, "5") {
			r[UpstreamFailures] += v
		}
	},
	"sociable_indexer_builds_total": func(r *reading, label func(string) string, v float64) {
		switch label("result") {
		case "indexed":
			r[Indexed] += v
		case "failed":
			r[IndexFailures] += v
		}
	},
	"sociable_indexer_task_failures_total": func(r *reading, _ func(string) string, v float64) { r[IndexFailures] += v },
	"sociable_storage_evicted_bytes_total": func(r *reading, _ func(string) string, v float64) { r[Evicted] += v },
	"sociable_storage_bytes": func(r *reading, label func(string) string, v float64) {
		r[Stored] += v
		if label("kind") == "span" {
			r[StoredSpans] += v
		}
	},
	"sociable_indexer_queue_jobs":        func(r *reading, _ func(string) string, v float64) { r[Queue] += v },
	"sociable_indexer_queue_failed_jobs": func(r *reading, _ func(string) string, v float64) { r[Queue] -= v },
}

// read measures.
func read(g prometheus.Gatherer) (r reading, err error) {
	families, err := g.Gather()
	for _, f := range families {
		add := sources[f.GetName()]
		if add == nil {
			continue
		}
		for _, m := range f.GetMetric() {
			add(&r, func(name string) string { return labelOf(m, name) }, m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	r[Queue] = max(0, r[Queue]) // the two are not counted at the same moment
	return r, err
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
