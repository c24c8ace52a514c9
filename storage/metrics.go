package storage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// op is what failed, as a label.
type op string

const (
	opSync       op = "sync"       // a blob was lost
	opRow        op = "row"        // rows could not be written
	opCheckpoint op = "checkpoint" // of a partial
	opAccess     op = "access"     // access times not filed
	opEvict      op = "evict"
	opSweep      op = "sweep"
	opRepair     op = "repair" // a row without its bytes was found
	opCheck      op = "check"  // bytes that are not their digest's were found
)

var (
	allOps   = []op{opSync, opRow, opCheckpoint, opAccess, opEvict, opSweep, opRepair, opCheck}
	allKinds = []Kind{KindBlob, KindSpan, KindManifest, KindZTOC, KindIndex, KindHosted, KindHot}
)

type metrics struct {
	commits      prometheus.Histogram
	errors       *prometheus.CounterVec
	evictions    *prometheus.CounterVec
	evictedBytes *prometheus.CounterVec
	reduced      prometheus.Counter
	relieved     prometheus.Counter
}

// newMetrics registers with reg, if that is not nil.
func newMetrics(reg prometheus.Registerer, usage func() Usage) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		commits: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "sociable_storage_commit_duration_seconds",
			Help:    "Time to make a blob, or a batch of blobs, durable and write the rows.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 10), NativeHistogramBucketFactor: 1.1,
		}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_storage_errors_total",
			Help: "Operations of the store that failed in the background.",
		}, []string{"op"}),
		evictions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_storage_evictions_total",
			Help: "Blobs, spans and partial blobs removed to make room.",
		}, []string{"kind"}),
		evictedBytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_storage_evicted_bytes_total",
			Help: "Bytes removed to make room.",
		}, []string{"kind"}),
		reduced: f.NewCounter(prometheus.CounterOpts{
			Name: "sociable_storage_reduced_layers_total",
			Help: "Layers evicted of which the spans that clients read were kept.",
		}),
	}
	m.relieved = f.NewCounter(prometheus.CounterOpts{
		Name: "sociable_storage_medium_full_evictions_total",
		Help: "Times that something was evicted because the medium was full before a limit was reached.",
	})
	for _, o := range allOps {
		m.errors.WithLabelValues(string(o))
	}
	for _, k := range []Kind{KindBlob, KindSpan, KindHot, kindPartial} {
		m.evictions.WithLabelValues(string(k))
		m.evictedBytes.WithLabelValues(string(k))
	}
	if reg != nil {
		reg.MustRegister(&usageCollector{usage})
	}
	return m
}

func (m *metrics) failed(o op) { m.errors.WithLabelValues(string(o)).Inc() }

func (m *metrics) evicted(k Kind, bytes int64) {
	m.evictions.WithLabelValues(string(k)).Inc()
	m.evictedBytes.WithLabelValues(string(k)).Add(float64(bytes))
}

func (m *metrics) committed(took time.Duration) { m.commits.Observe(took.Seconds()) }

// usageCollector shows the account as it is when it is asked.
type usageCollector struct{ usage func() Usage }

var (
	descBytes = prometheus.NewDesc("sociable_storage_bytes",
		"Bytes stored, by what they are.", []string{"kind"}, nil)
	descBlobs = prometheus.NewDesc("sociable_storage_blobs",
		"Blobs stored, by what they are.", []string{"kind"}, nil)
	descLimit = prometheus.NewDesc("sociable_storage_limit_bytes",
		"Most bytes that may be stored; 0 is no limit.", nil, nil)
	descUploads = prometheus.NewDesc("sociable_storage_open_uploads",
		"Uploads that are neither finished nor cancelled; uploads.expire ends those that nobody goes on with.", nil, nil)
	descUploadBytes = prometheus.NewDesc("sociable_storage_open_upload_bytes",
		"Bytes that have come of open uploads.", nil, nil)
)

func (c *usageCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descBytes
	ch <- descBlobs
	ch <- descLimit
	ch <- descUploads
	ch <- descUploadBytes
}

func (c *usageCollector) Collect(ch chan<- prometheus.Metric) {
	u := c.usage()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, k := range allKinds {
		gauge(descBytes, u.Bytes[k], string(k))
		gauge(descBlobs, u.Blobs[k], string(k))
	}
	gauge(descBytes, u.Partial, string(kindPartial))
	gauge(descBytes, u.Stray, "stray")
	gauge(descBytes, u.Removed, "removed")
	gauge(descBytes, u.Quarantined, "quarantined")
	gauge(descLimit, u.Limit)
	gauge(descUploads, int64(u.Open.Uploads))
	gauge(descUploadBytes, u.Open.Bytes)
}
