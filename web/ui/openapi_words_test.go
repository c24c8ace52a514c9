package ui

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// words are what comments say of the fields of structs, by package, struct and
// field. What a document says of a property is what the code says of it.
type words struct {
	packages map[string]map[string]string // by path: "Struct.Field" to comment
	fields   int
	none     []string // of these, those of which nothing is said
}

// of is the comment of a field of t.
func (x *words) of(t *testing.T, in reflect.Type, field string) string {
	t.Helper()
	if x.packages == nil {
		x.packages = map[string]map[string]string{}
	}
	pkg, ok := x.packages[in.PkgPath()]
	if !ok {
		pkg = commentsOf(t, in.PkgPath())
		x.packages[in.PkgPath()] = pkg
	}
	return pkg[in.Name()+"."+field]
}

const module = "github.com/sociable/sociable"

func commentsOf(t *testing.T, path string) map[string]string {
	t.Helper()
	dir, ours := strings.CutPrefix(path, module+"/")
	if dir = filepath.Join("..", "..", dir); !ours {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-find", "-f", "{{.Dir}}", path).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", path, err)
		}
		dir = strings.TrimSpace(string(out))
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of %s in %s: %v", path, dir, err)
	}
	said := map[string]string{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, id := range field.Names {
						said[spec.Name.Name+"."+id.Name] = sentence(field, id.Name)
					}
				}
			}
			return true
		})
	}
	return said
}

// sentence is a field's comment, without its name where it begins with that.
func sentence(f *ast.Field, name string) string {
	text := f.Comment.Text()
	if text == "" {
		text = f.Doc.Text()
	}
	text = strings.Join(strings.Fields(text), " ")
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, name+verb); ok {
			return rest
		}
	}
	return text
}

// check holds that nearly all is described: a name like wanted or here can't be
// guessed. It names what is not.
func (x *words) check(t *testing.T) {
	t.Helper()
	slices.Sort(x.none)
	if len(x.none)*20 > x.fields {
		t.Errorf("of %d of %d properties nothing is said: give these a comment\n%s", len(x.none), x.fields, strings.Join(slices.Compact(x.none), "\n"))
	}
}

// describe says of each property of s, which is made of the struct in, what the
// code says of its field.
func (x *words) describe(t *testing.T, in reflect.Type, s *openapi3.Schema) {
	t.Helper()
	for _, f := range reflect.VisibleFields(in) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := s.Properties[name]
		if name == "" || name == "-" || p == nil || f.Anonymous {
			continue
		}
		owner := in
		for _, i := range f.Index[:len(f.Index)-1] {
			if owner = owner.Field(i).Type; owner.Kind() == reflect.Pointer {
				owner = owner.Elem()
			}
		}
		name = strings.TrimPrefix(owner.PkgPath(), module+"/") + " " + owner.Name() + "." + f.Name
		text := cmp.Or(x.of(t, owner, f.Name), besides[name])
		if x.fields++; text == "" {
			x.none = append(x.none, name)
		}
		p.Value.Description = text
	}
}
