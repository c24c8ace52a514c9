package indexer

import (
	"github.com/prometheus/client_golang/prometheus"
)

// What became of a build.
const (
	resultIndexed = "indexed" // the layer has a zTOC
	resultSkipped = "skipped" // it never will
	resultFailed  = "failed"  // a job that is tried again
	resultDropped = "dropped" // a tap whose stream broke off
)

// What became of a push to an upstream.
const (
	pushDone   = "pushed"
	pushLeft   = "left" // the upstream has something else there
	pushFailed = "failed"
)

type metrics struct {
	pushes       *prometheus.CounterVec
	builds       *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	published    prometheus.Counter
	converted    prometheus.Counter
	buildSeconds prometheus.Histogram
	buildBytes   prometheus.Counter
	taskFailures *prometheus.CounterVec
	queued       prometheus.Gauge
	tapsRunning  prometheus.Gauge
	tapsDropped  prometheus.Counter
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer) *metrics {
	const ns, sub = "sociable", "indexer"
	m := &metrics{
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "pushes_total",
			Help: "SOCI indexes and converted images for upstreams, by what became of them; a failed one is tried again.",
		}, []string{"result"}),
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "builds_total",
			Help: "Attempts to index a layer, by how they ended.",
		}, []string{"result"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "skipped_total",
			Help: "Layers of images that get no zTOC, by reason.",
		}, []string{"reason"}),
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "published_total",
			Help: "SOCI indexes listed.",
		}),
		converted: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "converted_total",
			Help: "SOCI v2 images made.",
		}),
		buildSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "build_duration_seconds",
			Help:    "Time spent in building a layer's zTOC, without waiting for its bytes.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8), NativeHistogramBucketFactor: 1.1,
		}),
		buildBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "build_bytes_total",
			Help: "Compressed bytes of layers that were read for indexing.",
		}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "queue_jobs", ConstLabels: prometheus.Labels{"kind": kindLayer},
			Help: queueHelp,
		}),
		taskFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "task_failures_total",
			Help: "Attempts to do a task about an image (conversions, publishing, fetching) that failed, by its kind; most are repeated.",
		}, []string{"kind"}),
		tapsRunning: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "taps_running",
			Help: "Layers that are being indexed while they are fetched.",
		}),
		tapsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "taps_dropped_total",
			Help: "Fetches of wanted layers that were not indexed on the way because too many were.",
		}),
	}
	for _, r := range []string{resultIndexed, resultSkipped, resultFailed, resultDropped} {
		m.builds.WithLabelValues(r)
	}
	for _, r := range Reasons {
		m.skipped.WithLabelValues(r)
	}
	for _, r := range []string{pushDone, pushLeft, pushFailed} {
		m.pushes.WithLabelValues(r)
	}
	for _, k := range taskKinds {
		m.taskFailures.WithLabelValues(string(k))
	}
	if reg != nil {
		reg.MustRegister(m.pushes, m.builds, m.skipped, m.published, m.converted, m.buildSeconds, m.buildBytes,
			m.queued, m.taskFailures, m.tapsRunning, m.tapsDropped)
	}
	return m
}
