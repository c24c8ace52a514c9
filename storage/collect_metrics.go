package storage

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type collectMetrics struct {
	runs      *prometheus.CounterVec
	removed   *prometheus.CounterVec
	reclaimed prometheus.Counter
	duration  prometheus.Gauge
}

// newCollectMetrics registers with reg, if that is not nil.
func newCollectMetrics(reg prometheus.Registerer) *collectMetrics {
	f := promauto.With(reg)
	m := &collectMetrics{
		runs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_storage_gc_runs_total", Help: "Garbage collections, by how they ended.",
		}, []string{"result"}),
		removed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sociable_storage_gc_removed_total", Help: "Tags, manifests, blobs, uploads and what was made here that were collected as garbage.",
		}, []string{"what"}),
		reclaimed: f.NewCounter(prometheus.CounterOpts{
			Name: "sociable_storage_gc_reclaimed_bytes_total", Help: "Bytes that were collected as garbage.",
		}),
		duration: f.NewGauge(prometheus.GaugeOpts{
			Name: "sociable_storage_gc_duration_seconds", Help: "How long the last garbage collection took.",
		}),
	}
	for _, r := range []string{"ok", "error"} {
		m.runs.WithLabelValues(r)
	}
	for _, w := range []string{CollectedTag, CollectedManifest, CollectedBlob, CollectedMade, CollectedUpload, CollectedOrphan} {
		m.removed.WithLabelValues(w)
	}
	return m
}

func (m *collectMetrics) ran(r CollectReport, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.runs.WithLabelValues(result).Inc()
	for what, n := range map[string]int{
		CollectedTag: r.Tags, CollectedManifest: r.Manifests, CollectedBlob: r.Blobs, CollectedMade: r.Made, CollectedUpload: r.Uploads, CollectedOrphan: r.Orphans,
	} {
		m.removed.WithLabelValues(what).Add(float64(n))
	}
	m.reclaimed.Add(float64(r.Freed))
	m.duration.Set(r.Took.Seconds())
}
