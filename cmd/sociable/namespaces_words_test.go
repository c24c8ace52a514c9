package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sociable/sociable/storage"
)

// TestNamespacesWords: that there is no quota is not said where none can be known.
func TestNamespacesWords(t *testing.T) {
	for name, tt := range map[string]struct {
		quota int64
		known bool
		want  string
	}{
		"a quota":   {2000, true, `local +500 B +500 B +2.0 KiB +50.0 %`},
		"none":      {0, true, `local +500 B +500 B +- +-`},
		"not known": {0, false, `local +500 B +500 B +\? +\?`},
	} {
		var out strings.Builder
		err := printNamespaces(&out, []storage.NamespaceUse{{Name: "local", Bytes: 500, UploadBytes: 500, Quota: tt.quota}}, tt.known)
		if err != nil || !regexp.MustCompile(`(?m)^`+tt.want+`$`).MatchString(out.String()) {
			t.Errorf("%s: %v, want %s in\n%s", name, err, tt.want, out.String())
		}
	}
}
