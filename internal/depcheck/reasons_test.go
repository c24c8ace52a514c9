package depcheck

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryDependencyHasAReason: ARCHITECTURE.md says why each direct dependency is
// there, and of none that is not.
func TestEveryDependencyHasAReason(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, tables, found := strings.Cut(string(text), "\n## Direct dependencies\n")
	if !found {
		t.Fatal("it has no tables of them")
	}
	reasons := map[string]bool{} // by module; true: some go.mod requires it
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(tables, -1) {
		for _, name := range regexp.MustCompile("`([^`]+/[^`]+)`").FindAllStringSubmatch(row[1], -1) {
			reasons[name[1]] = false
		}
	}
	for _, dir := range []string{".", "e2e", "e2e/wild", "e2e/wild/stargz", "deploy"} {
		for _, path := range required(t, filepath.Join(root, filepath.FromSlash(dir))) {
			name := strings.TrimPrefix(path, "github.com/")
			if _, given := reasons[name]; !given {
				t.Errorf("%s/go.mod requires %s, and ARCHITECTURE.md does not say why", dir, path)
			}
			reasons[name] = true
		}
	}
	for name, used := range reasons {
		if !used {
			t.Errorf("ARCHITECTURE.md says why there is %s, which no go.mod requires", name)
		}
	}
}

// required are the modules, ours left out, that the go.mod in dir requires directly.
func required(t *testing.T, dir string) (out []string) {
	t.Helper()
	raw, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", filepath.Join(dir, "go.mod")).Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(raw, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect && r.Path != module && !strings.HasPrefix(r.Path, module+"/") {
			out = append(out, r.Path)
		}
	}
	if len(out) == 0 {
		t.Errorf("%s requires nothing", dir)
	}
	return out
}
