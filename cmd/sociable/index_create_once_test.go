package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestIndexCreateReadsOnce: a layer that comes because an index was asked for is
// read once, in spans of the size that was asked for, whatever the rules say.
func TestIndexCreateReadsOnce(t *testing.T) {
	rules := writeConfig(t, "index: {rules: [{repositories: ['**'], min_layer_size: 0, span_size: 4MiB}]}\n")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	l.Close()
	s := startServer(t, "--config", rules, "--admin", admin, "--upstream", "up="+layoutRegistry(t).URL)
	out, _ := program(t, exitOK, "index", "create", "--json", "--data", s.dir, "--min-layer-size", "0", "--span-size", "64KiB", "up/single:1")
	var list []IndexInfo
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	var want int64
	for _, l := range list[0].Layers {
		if l.State == storage.LayerIndexed {
			want += l.Size
		}
	}
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	m := regexp.MustCompile(`(?m)^sociable_indexer_build_bytes_total (\S+)$`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("no count in\n%s", body)
	}
	if got, err := strconv.ParseFloat(string(m[1]), 64); err != nil || int64(got) != want || want == 0 {
		t.Errorf("%s bytes of layers were read, want %d", m[1], want)
	}
}
