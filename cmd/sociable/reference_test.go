package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/reference anew instead of comparing it")

// TestReference keeps docs/reference true: it is made from the code, by
// make docs.
func TestReference(t *testing.T) {
	for file, made := range map[string]func(*testing.T) string{
		"configuration.md": configurationReference,
		"metrics.md":       metricsReference,
		"cli.md":           commandReference,
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("..", "..", "docs", "reference", file)
			want := made(t)
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
					t.Fatal(err)
				}
				return
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("docs/reference/%s is not what the code says any more: make docs", file)
			}
		})
	}
}

// configurationReference is every key with its default, as config.yml tells of
// it: TestCommittedConfig holds that file to the code.
func configurationReference(t *testing.T) string {
	body, err := os.ReadFile("../../config.yml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# Configuration

Every key, made from the code and from [config.yml](../../config.yml), which has the same with the defaults to copy from. A file holds
only what is to differ; ` + "`sociable config check FILE`" + ` says what is wrong with it, with line numbers, and ` + "`sociable config show`" + `
prints what is in force. Each key with a single value can be set from the environment, which wins over the file; flags win over both.
Sizes are written 4MiB, 10GB or as a number of bytes, durations 500ms, 30s, 5m or 24h.

`)
	page := configPage{b: &b, defaults: map[string]leaf{}}
	for _, l := range Default().leaves() {
		page.defaults[l.path] = l
	}
	page.section(doc.Content[0], "", "")
	return b.String()
}

type configPage struct {
	b        *strings.Builder
	defaults map[string]leaf
}

// section writes the keys of one mapping; path is where they are, and shown the
// same with a placeholder for what users name themselves.
func (p *configPage) section(n *yaml.Node, path, shown string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		if path == "upstreams" || path == "hosted" {
			if i > 0 { // the first shows all the keys
				return
			}
			name = "NAME"
		}
		here, there := join(path, key.Value), join(shown, name)
		l, isLeaf := p.defaults[here]
		if value.Kind == yaml.MappingNode && !isLeaf {
			level := "##"
			if path != "" {
				level = "###"
			}
			fmt.Fprintf(p.b, "%s %s\n\n", level, there)
			if key.HeadComment != "" {
				p.words(key)
			}
			p.section(value, here, there)
			continue
		}
		p.key(key, value, there, l)
	}
}

func (p *configPage) key(key, value *yaml.Node, shown string, l leaf) {
	fmt.Fprintf(p.b, "**`%s`**", shown)
	if !l.v.IsValid() { // of an item of a list
		fmt.Fprintf(p.b, " (default `%s`)", defaultOf(value))
	} else {
		switch items := itemKeys(l.v.Type()); {
		case items != "":
			fmt.Fprintf(p.b, " (list; each: %s)", items)
		case l.v.Kind() == reflect.Slice:
			p.b.WriteString(" (list)")
		default:
			fmt.Fprintf(p.b, " (default `%s`; `%s`)", defaultOf(value), envOf(shown))
		}
		if l.enum != "" {
			fmt.Fprintf(p.b, ", one of %s", strings.Join(quoteAll(strings.Split(l.enum, ",")), ", "))
		}
	}
	p.b.WriteString("\n\n")
	p.words(key)
	if value.Kind == yaml.SequenceNode && len(value.Content) > 0 && value.Content[0].Kind == yaml.MappingNode {
		p.section(value.Content[0], shown+"[]", shown+"[]")
	}
}

func quoteAll(words []string) []string {
	for i, w := range words {
		words[i] = "`" + w + "`"
	}
	return words
}

// itemKeys lists what the items of a list of sections have.
func itemKeys(t reflect.Type) string {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct {
		return ""
	}
	var keys []string
	for _, f := range keysOf(t.Elem()) {
		keys = append(keys, f.key)
	}
	return strings.Join(quoteAll(keys), ", ")
}

// defaultOf is a value as config.yml has it.
func defaultOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		return "[]"
	case n.Kind == yaml.SequenceNode:
		return fmt.Sprintf("[%q]", n.Content[0].Value)
	case n.Value == "":
		return `""`
	}
	return n.Value
}

func envOf(path string) string {
	return "SOCIABLE_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// words are the comment above a key. What it indents is an example.
func (p *configPage) words(key *yaml.Node) {
	if key.HeadComment == "" {
		p.b.WriteString("\n")
		return
	}
	example := false
	for line := range strings.SplitSeq(key.HeadComment, "\n") {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "#"), " ")
		isExample := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "- ")
		if isExample != example {
			if isExample {
				p.b.WriteString("\n```yaml\n")
			} else {
				p.b.WriteString("```\n\n")
			}
			example = isExample
		}
		p.b.WriteString(line + "\n")
	}
	if example {
		p.b.WriteString("```\n")
	}
	p.b.WriteString("\n")
}

// describer notes what is registered, metrics without a value yet included.
type describer struct {
	*prometheus.Registry
	mu    sync.Mutex
	descs map[string]described
}

type described struct{ kind, help, labels string }

func (d *describer) Register(c prometheus.Collector) error {
	d.note(c)
	return d.Registry.Register(c)
}

func (d *describer) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		d.note(c)
	}
	d.Registry.MustRegister(cs...)
}

var descPattern = regexp.MustCompile(`fqName: "([^"]*)", help: ("(?:[^"\\]|\\.)*"),.* constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

func (d *describer) note(c prometheus.Collector) {
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		c.Describe(ch)
	}()
	for desc := range ch {
		m := descPattern.FindStringSubmatch(desc.String())
		if m == nil || !strings.HasPrefix(m[1], "sociable_") {
			continue // the Go runtime's and the process's own
		}
		var labels []string
		for l := range strings.SplitSeq(m[3]+","+m[4], ",") {
			if name, _, _ := strings.Cut(l, "="); name != "" {
				labels = append(labels, "`"+name+"`")
			}
		}
		var help string
		_, _ = fmt.Sscanf(m[2], "%q", &help) // it was printed with %q
		d.mu.Lock()
		d.descs[m[1]] = described{kindOf(m[1], c), help, strings.Join(labels, ", ")}
		d.mu.Unlock()
	}
}

func kindOf(name string, c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

func metricsReference(t *testing.T) string {
	c := Default()
	c.Storage.Path, c.Listen, c.Admin.Listen = t.TempDir(), "", ""
	reg := &describer{Registry: prometheus.NewRegistry(), descs: map[string]described{}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- runMeasured(ctx, c, slog.New(slog.DiscardHandler), reg) }()
	for ctx.Err() == nil { // until every part is built
		if conn, err := net.Dial("unix", filepath.Join(c.Storage.Path, adminSocket)); err == nil {
			_ = conn.Close()
			break
		}
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range reg.descs {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString(`# Metrics

What ` + "`/metrics`" + ` has, besides the Go runtime's and the process's own, made from the code. Labels are closed sets: no repository, tag,
digest or caller is in any of them; ` + "`upstream` and `endpoint`" + ` are those of the configuration. Histograms are native and classic.

| metric | kind | labels | what it says |
|---|---|---|---|
`)
	for _, name := range names {
		d := reg.descs[name]
		for _, many := range []string{"`repo`", "`repository`", "`digest`", "`tag`", "`ref`", "`image`", "`layer`", "`path`", "`user`", "`caller`", "`client`"} {
			if strings.Contains(d.labels, many) {
				t.Errorf("%s has the label %s, of which there is no end of values", name, many)
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, d.kind, d.labels, strings.ReplaceAll(d.help, "|", "\\|"))
	}
	return b.String()
}

func commandReference(*testing.T) string {
	var b strings.Builder
	b.WriteString(`# Command line

Every command, as ` + "`--help`" + ` tells of it. Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.

`)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		var help bytes.Buffer
		cmd.SetOut(&help)
		cmd.InitDefaultHelpFlag()
		_ = cmd.Help() // to memory
		fmt.Fprintf(&b, "## %s\n\n```\n%s```\n\n", cmd.CommandPath(), help.String())
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
	return strings.TrimSuffix(b.String(), "\n")
}
