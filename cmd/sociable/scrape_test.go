package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
)

// TestHistogramsTwice: every histogram is native to a Prometheus that asks for
// protobuf, and has classic buckets for whoever reads text.
func TestHistogramsTwice(t *testing.T) {
	up := newFakeUpstream(t)
	admin := "127.0.0.1:" + freePort(t)
	s := startServer(t, "--upstream", "lab="+up.URL, "--admin", admin)
	if status, body := plainGet(t, http.MethodGet, "http://"+s.addr+"/v2/lab/app/manifests/1", nil); status != 200 {
		t.Fatalf("pull: %d %s", status, body)
	}
	const served, asked = "sociable_proxy_request_duration_seconds", "sociable_upstream_request_duration_seconds"
	var native map[string]*dto.MetricFamily
	// A request is counted when it is over, which is after its answer.
	for deadline := time.Now().Add(time.Minute); native[served] == nil || native[asked] == nil; {
		if time.Now().After(deadline) {
			t.Fatalf("no %s and %s", served, asked)
		}
		native = histograms(t, scrape(t, admin, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"))
	}
	text := string(scrape(t, admin, "text/plain"))
	for name, f := range native {
		for _, m := range f.Metric {
			h := m.GetHistogram()
			if h.Schema == nil || len(h.Bucket) == 0 {
				t.Errorf("%s is not both, native and classic: %v", name, h)
			}
			if h.GetSampleCount() > 0 && len(h.PositiveSpan) == 0 && h.GetZeroCount() == 0 {
				t.Errorf("%s has samples and no native bucket: %v", name, h)
			}
		}
		if !strings.Contains(text, name+"_bucket{") {
			t.Errorf("%s has no classic buckets in the text", name)
		}
	}
}

// scrape is what the metrics are to who takes a type.
func scrape(t *testing.T, admin, accept string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	return body
}

// histograms are those of this program in a scrape, by name.
func histograms(t *testing.T, body []byte) map[string]*dto.MetricFamily {
	t.Helper()
	found := map[string]*dto.MetricFamily{}
	for in := bufio.NewReader(bytes.NewReader(body)); ; {
		f := new(dto.MetricFamily)
		err := protodelim.UnmarshalFrom(in, f)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.GetType() == dto.MetricType_HISTOGRAM && strings.HasPrefix(f.GetName(), "sociable_") {
			found[f.GetName()] = f
		}
	}
}
