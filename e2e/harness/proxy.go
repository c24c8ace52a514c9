package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Proxy is sociable as a process that can be restarted at the same addresses
// over the same data.
type Proxy struct {
	*Process          // of the last Start
	Addr     string   // host:port of the registry
	Admin    string   // host:port of health and metrics
	Data     string   // folder
	Env      []string // KEY=VALUE, over the test's own environment

	programs *Programs
	args     []string
	earlier  strings.Builder // what processes before this one wrote
}

// NewProxy takes addresses for a proxy with its store in data. upstreams are
// NAME=URL; further args go to serve as they are. It is not started.
func NewProxy(programs *Programs, data string, upstreams []string, args ...string) (*Proxy, error) {
	x := &Proxy{Data: data, programs: programs}
	var err error
	if x.Addr, err = FreeAddr(); err != nil {
		return nil, err
	}
	if x.Admin, err = FreeAddr(); err != nil {
		return nil, err
	}
	x.args = []string{"serve", "--listen", x.Addr, "--admin", x.Admin, "--data", data}
	for _, u := range upstreams {
		x.args = append(x.args, "--upstream", u)
	}
	x.args = append(x.args, args...)
	return x, nil
}

// Start runs the proxy and waits until it is ready.
func (x *Proxy) Start(ctx context.Context) error {
	p, err := Spawn(ctx, x.Env, x.programs.Sociable, x.args...)
	if err != nil {
		return err
	}
	if x.Process != nil {
		x.earlier.WriteString(x.Process.Log())
	}
	x.Process = p
	if err := p.await(ctx, "http://"+x.Admin+"/readyz"); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// Log is what all processes of this proxy wrote so far.
func (x *Proxy) Log() string { return x.earlier.String() + x.Process.Log() }

// Index is an image as `sociable index list --json` shows it.
type Index struct {
	Repository string `json:"repository"`
	Manifest   string `json:"manifest"`
	Index      string `json:"index"`
	Layers     []struct {
		Digest string `json:"digest"`
		State  string `json:"state"`
		Reason string `json:"reason"`
		ZTOC   string `json:"ztoc"`
		Spans  int    `json:"spans"`
	} `json:"layers"`
}

// Indexes runs `sociable index list`.
func (x *Proxy) Indexes(ctx context.Context) ([]Index, error) {
	out, err := Run(ctx, x.programs.Sociable, "index", "list", "--json", "--data", x.Data)
	if err != nil {
		return nil, err
	}
	var list []Index
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("index list --json: %w\n%s", err, out)
	}
	return list, nil
}

// Purge runs `sociable purge` for a blob's bytes: a layer's index stays.
func (x *Proxy) Purge(ctx context.Context, digest string) error {
	_, err := Run(ctx, x.programs.Sociable, "purge", digest, "--keep-index", "--data", x.Data)
	return err
}

// Problem is one thing that `sociable fsck` found.
type Problem struct {
	Kind   string `json:"kind"`
	Digest string `json:"digest"`
	Detail string `json:"detail"`
}

// Fsck runs `sociable fsck`, which reads every byte that is stored, and tells how
// many blobs that were.
func (x *Proxy) Fsck(ctx context.Context) (blobs int, found []Problem, err error) {
	// It exits with 3 or 4 when it found something.
	out, rerr := Run(ctx, x.programs.Sociable, "fsck", "--json", "--rate", "0", "--data", x.Data)
	var result struct {
		Problems []Problem
		Report   struct{ Blobs int }
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, nil, fmt.Errorf("fsck --json: %w", errors.Join(err, rerr))
	}
	return result.Report.Blobs, result.Problems, nil
}

// Metrics gives every sample of /metrics by its name and labels, as they are
// written there.
func (x *Proxy) Metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+x.Admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	samples := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[i+1:], &v); err == nil {
			samples[line[:i]] = v
		}
	}
	return samples, nil
}
