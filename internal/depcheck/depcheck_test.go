package depcheck

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sociable/sociable"

// allowed lists, for each package of the product, the packages of the product
// that it may import; one that ends in /... stands for everything below it.
var allowed = map[string][]string{
	"prewarm":               {"internal/oci"},
	"cmd/sociable":          {"prewarm", "proxy", "indexer", "learn", "referrers", "web/...", "events", "hooks", "storage/...", "internal/...", "ztoc"},
	"proxy":                 {"storage", "internal/upstream", "internal/oci", "ztoc"},
	"indexer":               {"storage", "internal/oci", "ztoc"},
	"learn":                 {"storage", "internal/oci", "ztoc"},
	"referrers":             {"storage", "internal/upstream", "internal/oci"},
	"web":                   {"web/catalog", "storage", "internal/bundle", "internal/oci", "ztoc"},
	"web/catalog":           {"storage", "internal/oci", "ztoc"},
	"web/series":            {"storage"},
	"web/trouble":           {},
	"web/ui":                {"web/...", "storage", "internal/oci", "ztoc"},
	"events":                {"storage", "internal/oci"},
	"hooks":                 {"internal/oci"},
	"storage":               {"internal/oci", "ztoc"},
	"storage/disk":          {"storage", "internal/oci"},
	"storage/bolt":          {"storage", "internal/oci"},
	"storage/storagetest":   {"storage/...", "internal/oci", "ztoc"},
	"internal/access":       {"internal/oci"},
	"internal/upstream":     {"internal/oci"},
	"internal/bundle":       {"internal/oci", "ztoc"},
	"internal/depcheck":     {},
	"internal/doctor":       {"internal/oci", "ztoc"},
	"internal/imagelist":    {},
	"ztoc":                  {"ztoc/internal/inflate", "internal/oci"},
	"ztoc/internal/inflate": {},
	"internal/oci":          {},
}

func TestImportsGoDown(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may, known := allowed[name]
		if !known {
			t.Errorf("%s has no floor: say in this test what it may import", name)
		}
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, module+"/")
			if ours && !slices.ContainsFunc(may, func(m string) bool { return covers(m, dep) }) {
				t.Errorf("%s imports %s, which is not below it", name, dep)
			}
		}
	}
}

func covers(pattern, dep string) bool {
	if prefix, all := strings.CutSuffix(pattern, "/..."); all {
		return dep == prefix || strings.HasPrefix(dep, prefix+"/")
	}
	return dep == pattern
}

// pkg is what go list says of a package, tests left out.
type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) (out []pkg) {
	t.Helper()
	raw, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		out = append(out, p)
	}
}
