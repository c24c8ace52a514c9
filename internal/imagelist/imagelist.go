package imagelist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/distribution/reference"
	"go.yaml.in/yaml/v3"
)

// MaxBytes bounds a text. A chart with a thousand objects is some megabytes.
const MaxBytes = 64 << 20

// maxDepth bounds how deep documents are looked into; the parser has a bound of
// its own, but a walk wants less stack.
const maxDepth = 1000

// Image is one image that was found.
type Image struct {
	Name string // as it is written
	Line int    // where it is first named, from 1
}

// Ignored is what was looked at and not taken.
type Ignored struct {
	Line  int
	Where string // the path of keys, or "" in a list
	Value string // as it is written, shortened
	Why   string
	Bad   bool // an image has to stand there, and none does
}

func (g Ignored) String() string {
	at := fmt.Sprintf("line %d: ", g.Line)
	if g.Where != "" {
		at += g.Where + ": "
	}
	if g.Value != "" {
		at += fmt.Sprintf("%q ", g.Value)
	}
	return at + g.Why
}

// Read finds the images in r, each once, in the order in which they stand there.
// A line of a list that is no image is an error, with its number; so is a text
// that is neither a list nor documents.
func Read(r io.Reader) ([]Image, []Ignored, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the list of images: %w", err)
	}
	if len(text) > MaxBytes {
		return nil, nil, fmt.Errorf("read the list of images: longer than %d bytes", MaxBytes)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	f := finder{seen: map[string]bool{}}
	if isList(text) {
		err = f.list(text)
	} else {
		err = f.documents(text)
	}
	return f.images, f.ignored, err
}

type finder struct {
	images  []Image
	ignored []Ignored
	seen    map[string]bool
	aliases map[*yaml.Node]bool // anchors of one document that were looked into
	with    map[*yaml.Node]bool // mappings of one document: whether they have an image
}

// isList tells a list from documents by its first line that says anything.
func isList(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		word := lineWord(line)
		if word == "" {
			continue
		}
		return !strings.ContainsAny(word, " \t") && !strings.HasSuffix(word, ":") && !strings.ContainsAny(word[:1], `-{["'%&*!|>?`)
	}
	return true // nothing in it
}

// lineWord is what a line of a list says: without a comment and white space.
func lineWord(line string) string {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return ""
	}
	if i := strings.Index(line, " #"); i >= 0 {
		line = line[:i]
	}
	return strings.TrimSpace(line)
}

func (f *finder) list(text []byte) error {
	n := 0
	var bad []error
	for line := range strings.Lines(string(text)) {
		n++
		word := lineWord(line)
		if word == "" {
			continue
		}
		if err := check(word); err != nil {
			bad = append(bad, fmt.Errorf("line %d: %q %w", n, clip(word), err))
			continue
		}
		f.add(word, n)
	}
	return errors.Join(bad...)
}

func (f *finder) add(name string, line int) {
	if !f.seen[name] {
		f.seen[name] = true
		f.images = append(f.images, Image{name, line})
	}
}

func (f *finder) ignore(n *yaml.Node, where *trail, why string) { f.refuse(n, where, why, false) }

func (f *finder) refuse(n *yaml.Node, where *trail, why string, bad bool) {
	value := ""
	if n.Kind == yaml.ScalarNode {
		value = clip(n.Value)
	}
	f.ignored = append(f.ignored, Ignored{n.Line, where.String(), value, why, bad})
}

// check is nil for what names an image.
func check(word string) error {
	_, err := reference.ParseNormalizedNamed(strings.TrimPrefix(word, "docker://"))
	if err == nil {
		return nil
	}
	if strings.ContainsAny(word, "{}$") {
		return errors.New("is a template that was not filled in")
	}
	return fmt.Errorf("is no image's name: %w", err)
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
