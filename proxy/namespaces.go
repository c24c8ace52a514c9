package proxy

import (
	"cmp"
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/storage"
)

// Namespaces tells how full the hosted namespaces are, by name.
func (p *Proxy) Namespaces(ctx context.Context) ([]storage.NamespaceUse, error) {
	list := []storage.NamespaceUse{}
	for name, u := range p.routes().byName {
		if !u.Hosted || name != u.Name { // an alias
			continue
		}
		use, err := p.store.NamespaceUse(ctx, u.Name, u.Hosting.Quota)
		if err != nil {
			return nil, err
		}
		list = append(list, use)
	}
	slices.SortFunc(list, func(a, b storage.NamespaceUse) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// namespaceCollector shows them as they are when they are asked for. Their names are
// those of the configuration.
type namespaceCollector struct{ p *Proxy }

var (
	descHosted = prometheus.NewDesc("sociable_hosted_bytes",
		"Bytes that the repositories of a hosted namespace have, each digest once.", []string{"namespace"}, nil)
	descHostedUploads = prometheus.NewDesc("sociable_hosted_upload_bytes",
		"Bytes of open uploads to a hosted namespace beyond what it has: they count for its quota, too.", []string{"namespace"}, nil)
	descHostedQuota = prometheus.NewDesc("sociable_hosted_quota_bytes",
		"Most bytes that a hosted namespace may have (hosted.NAME.quota); 0 is no limit.", []string{"namespace"}, nil)
)

func (c namespaceCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descHosted
	ch <- descHostedUploads
	ch <- descHostedQuota
}

func (c namespaceCollector) Collect(ch chan<- prometheus.Metric) {
	list, err := c.p.Namespaces(c.p.life)
	if err != nil { // other metrics are of more use than none
		c.p.log.DebugContext(c.p.life, "namespaces not measured", "err", err)
	}
	gauge := func(d *prometheus.Desc, v int64, name string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), name)
	}
	for _, x := range list {
		gauge(descHosted, x.Bytes, x.Name)
		gauge(descHostedUploads, x.UploadBytes, x.Name)
		gauge(descHostedQuota, x.Quota, x.Name)
	}
}
