package dashboard

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/storage/bolt"
	"github.com/sociable/sociable/web/series"
)

// past gives a store a day of traffic, so that the charts have something to draw.
func past(t *testing.T, data string) {
	t.Helper()
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(data, "meta.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reg := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sociable_proxy_requests_total"}, []string{"code", "cache"})
	sent := prometheus.NewCounter(prometheus.CounterOpts{Name: "sociable_proxy_sent_bytes_total"})
	fetched := prometheus.NewCounter(prometheus.CounterOpts{Name: "sociable_proxy_upstream_bytes_total"})
	built := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sociable_indexer_builds_total"}, []string{"result"})
	queue := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sociable_indexer_queue_jobs"})
	reg.MustRegister(requests, sent, fetched, built, queue)
	now := time.Now().Add(-24 * time.Hour)
	r := series.New(series.Options{Gatherer: reg, Rows: db, Now: func() time.Time { return now }})
	for i := range 24 * 60 * 3 {
		x := float64(i)
		busy := 1 + math.Sin(x/300) + 0.35*math.Sin(x/7) + 0.2*math.Sin(x/2.3)
		requests.WithLabelValues("2xx", "hit").Add(max(0, 60*busy))
		requests.WithLabelValues("2xx", "miss").Add(max(0, 7+5*math.Sin(x/11)))
		sent.Add(max(0, busy*400e6))
		fetched.Add(max(0, 40e6+30e6*math.Sin(x/11)))
		queue.Set(math.Round(max(0, 6*math.Sin(x/31))))
		if i%13 == 0 {
			built.WithLabelValues("indexed").Add(math.Round(max(0, 3*busy)))
		}
		r.Measure()
		now = now.Add(20 * time.Second)
	}
	if err := r.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	unhappy(t, db)
}

// unhappy gives a store jobs that were given up, with names and errors as long as
// they can be: enough of them for a long page.
func unhappy(t *testing.T, db *bolt.DB) {
	t.Helper()
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		for i := range 120 {
			name := fmt.Sprintf("team-%03d/a-service-with-a-name-that-is-rather-long/and-a-part-of-it", i)
			err := tx.PutTask(storage.TaskRow{
				Kind: storage.TaskConvert, Repo: oci.Repo{Upstream: "registry.k8s.io", Name: name}, Reference: digest.FromString(name).String(),
				Attempts: 12, Failed: true, Created: time.Now().Add(-time.Duration(i) * time.Minute),
				LastError: "fetch manifest: GET \"https://registry.k8s.io/v2/" + name + "/manifests/latest\": dial tcp: lookup registry.k8s.io: no such host",
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
