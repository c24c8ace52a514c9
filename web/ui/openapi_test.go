package ui

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3gen"
	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/storage"
	"github.com/sociable/sociable/web"
)

var update = flag.Bool("update", false, "write assets/openapi.json anew instead of comparing it")

// operation is what the document says of one route.
type operation struct {
	summary string
	params  []string // names of parameters, below
	body    any      // of a POST, nil: none
	gives   any      // nil: bytes
}

var params = map[string]struct{ in, what, kind string }{
	"digest": {"path", "digest of the image's manifest, or of the layer", "string"},
	"range":  {"query", "what numbers and charts are about: 1h, 24h or 7d", "string"},
	"q":      {"query", "words that all occur in names, platform or digests", "string"},
	"sort":   {"query", "column: " + columnList(), "string"},
	"order":  {"query", "asc or desc", "string"},
	"offset": {"query", "how many to leave out at the front", "integer"},
	"limit":  {"query", "how many to give at most", "integer"},
	"image":  {"query", "manifest digest of the image as whose layer it is looked at; absent: one that has it", "string"},
	"path":   {"query", "folder; absent: the root", "string"},
	"search": {"query", "words that all occur in a file's path; then path does not count", "string"},
	"name":   {"query", "path of the file in the layer", "string"},

	"no_pin":      {"query", "let the images be evicted like any other", "boolean"},
	"no_wait":     {"query", "do not wait until they are indexed", "boolean"},
	"trust_spans": {"query", "take layers by their spans from whoever made the bundle, signed or not", "boolean"},

	"stats:name": {"query", "image, in any spelling; absent: those that gain most", "string"}, // a name that means something else there
}

func columnList() string {
	var names []string
	for _, c := range columnTitles {
		names = append(names, string(c.column))
	}
	return strings.Join(names, ", ")
}

var operations = map[string]operation{
	"GET /overview":                    {"How the proxy does", []string{"range"}, nil, Overview{}},
	"GET /images":                      {"The list of images, sorted, searched and paged", []string{"q", "sort", "order", "offset", "limit"}, nil, Images{}},
	"GET /images/{digest}":             {"One image with its layers, referrers and commands", []string{"digest"}, nil, Image{}},
	"GET /layers/{digest}":             {"One layer with its spans: which are here, which clients read", []string{"digest", "image"}, nil, LayerView{}},
	"GET /layers/{digest}/files":       {"A folder of a layer, or a search in it, and what the layer changes", []string{"digest", "image", "path", "search"}, nil, Files{}},
	"GET /layers/{digest}/file":        {"One file out of a layer; only the spans that hold it are read", []string{"digest", "image", "name"}, nil, nil},
	"GET /layers/{digest}/ztoc":        {"The layer's zTOC", []string{"digest", "image"}, nil, nil},
	"GET /layers/{digest}/checkpoints": {"Where decompression can begin", []string{"digest", "image", "offset", "limit"}, nil, Checkpoints{}},
	"GET /jobs":                        {"What waits to be indexed, and what is being indexed", nil, nil, Jobs{}},
	"POST /jobs/retry":                 {"Have a job tried again; an empty id is every one that failed", nil, JobNamed{}, Changed{}},
	"POST /jobs/cancel":                {"Have a job not be done, until it is retried; an empty id is every one that failed", nil, JobNamed{}, Changed{}},
	"POST /jobs/clear":                 {"Forget a job that failed or was cancelled; an empty id is every one that failed", nil, JobNamed{}, Changed{}},
	"GET /missing":                     {"What was asked for while its upstream is offline by configuration, as `sociable missing` lists it", nil, nil, []web.MissingThing{}},
	"GET /setup":                       {"The configuration of each client, with this proxy's address", nil, nil, Setup{}},
	"POST /setup/test":                 {"Go the way of a lazy client to this proxy; an empty image is the last one pulled", nil, TestOf{}, TestResult{}},
	"GET /openapi.json":                {"This document", nil, nil, map[string]any{}},
	"GET /stats":                       {"What indexing is good for, as `sociable stats` says", []string{"stats:name"}, nil, web.Stats{}},
	"GET /pins":                        {"What is kept, as `sociable pins` lists it", nil, nil, []web.Pin{}},
	"POST /pin":                        {"Keep an image, as `sociable pin` does", nil, Named{}, web.Pin{}},
	"POST /unpin":                      {"Let an image go, as `sociable unpin` does", nil, Named{}, web.Pin{}},
	"POST /refresh":                    {"Have the next request for a tag ask its upstream, as `sociable refresh` does", nil, Named{}, web.Tag{}},
	"POST /purge":                      {"Drop an image or a blob, as `sociable purge` does", nil, web.PurgeRequest{}, web.Purged{}},
	"GET /blocks":                      {"What is kept out, as `sociable blocks` lists it", nil, nil, []storage.BlockRow{}},
	"POST /unblock":                    {"Let in again what is kept out, as `sociable unblock` does; the digests", nil, Named{}, []digest.Digest{}},
	"GET /events":                      {"What endpoints have not been told yet, as `sociable events list` lists it: the oldest hundred of what waits and of what was set aside", nil, nil, []web.EventQueue{}},
	"POST /events/retry":               {"Send what an endpoint refused to it again, as `sociable events retry` does; waiting is not looked at", nil, web.EventsRequest{}, web.EventsChanged{}},
	"POST /events/drop":                {"Forget what an endpoint refused, and with waiting what it has not taken yet, as `sociable events drop` does", nil, web.EventsRequest{}, web.EventsChanged{}},
	"GET /uploads":                     {"Uploads that are under way, as `sociable uploads` lists them", nil, nil, []storage.UploadInfo{}},
	"POST /uploads/cancel":             {"End an upload and drop what has come of it, as `sociable uploads cancel` does", nil, UploadID{}, storage.UploadInfo{}},
	"POST /warm":                       {"Bring an image here, as `sociable warm` does: a line for each event, of which the last has the image or an error", nil, Warm{}, lines{web.WarmEvent{}}},
	"POST /gc":                         {"Remove what nothing needs any more, as `sociable gc` does: a line for each thing, of which the last has the report", nil, web.GCRequest{}, lines{web.GCEvent{}}},
	"POST /fsck":                       {"Read everything that is stored and compare it with its digest, as `sociable fsck` does: a line for each event, of which the last has the report", nil, web.CheckRequest{}, lines{web.CheckEvent{}}},
	"POST /export":                     {"Write images into a bundle, as `sociable export` does. An answer that is cut off is no bundle", nil, web.ExportRequest{}, tarball{}},
	"POST /import":                     {"Take images out of a bundle, as `sociable import` does", []string{"no_pin", "no_wait", "trust_spans"}, tarball{}, web.ImportReport{}},
}

// tarball is a body, or an answer, that is a tar.
type tarball struct{}

func (tarball) content() openapi3.Content {
	return openapi3.NewContentWithSchema(&openapi3.Schema{Type: &openapi3.Types{"string"}, Format: "binary"}, []string{"application/x-tar"})
}

// lines is an answer of a line of JSON for each event.
type lines struct{ event any }

// problem is an answer of an error.
type problem struct {
	Errors []fault `json:"errors"`
}

type fault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// document makes the document from the routes and the types of their answers.
func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc := &openapi3.T{
		OpenAPI: "3.0.3",
		Info: &openapi3.Info{
			Title: "sociable", Version: "1",
			Description: "What the dashboard shows, for programs. Beyond loopback every request needs the right `administer`: " +
				"by Basic credentials of auth.htpasswd_file, or a token of `sociable admin token`.",
			License: &openapi3.License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		Servers: openapi3.Servers{{URL: "/api/v1"}}, Paths: openapi3.NewPaths(),
		Components: &openapi3.Components{Schemas: openapi3.Schemas{}, SecuritySchemes: openapi3.SecuritySchemes{
			"password": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("basic")},
			"token":    {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer")},
		}},
		Security: openapi3.SecurityRequirements{{}, {"password": {}}, {"token": {}}},
	}
	said := &words{}
	gen := openapi3gen.NewGenerator(openapi3gen.SchemaCustomizer(func(_ string, of reflect.Type, _ reflect.StructTag, s *openapi3.Schema) error {
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct && s.Type != nil && s.Type.Is("object") {
			s.Required = required(of, s)
			said.describe(t, of, s)
		}
		return nil
	}))
	wrong := schema(t, gen, doc, problem{})
	u := New(Options{})
	for _, r := range u.apiRoutes() {
		key := r.method + " " + r.path
		op, ok := operations[key]
		if !ok {
			t.Errorf("%s is in no document", key)
			continue
		}
		o := openapi3.NewOperation()
		o.Summary, o.OperationID = op.summary, strings.ToLower(r.method)+camel(r.path)
		var query []string
		for _, name := range op.params {
			p, required := params[name], name == "name"
			if _, own, ok := strings.Cut(name, ":"); ok {
				name = own
			}
			if p.in == "query" {
				query = append(query, name)
			}
			q := &openapi3.Parameter{Name: name, In: p.in, Description: p.what, Required: p.in == "path" || required, Schema: openapi3.NewSchemaRef("", &openapi3.Schema{Type: &openapi3.Types{p.kind}})}
			o.AddParameter(q)
		}
		if takes := strings.Fields(r.query); !slices.Equal(takes, query) {
			t.Errorf("%s takes %q, and its document says %q", key, takes, query)
		}
		if x, ok := op.body.(tarball); ok {
			o.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).WithContent(x.content())}
		} else if op.body != nil {
			o.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).WithJSONSchemaRef(schema(t, gen, doc, op.body))}
		}
		good := openapi3.NewResponse().WithDescription("as asked")
		if l, ok := op.gives.(lines); ok {
			good.Content = openapi3.NewContentWithSchemaRef(schema(t, gen, doc, l.event), []string{"application/x-ndjson"})
		} else if x, ok := op.gives.(tarball); ok {
			good.Content = x.content()
		} else if op.gives == nil {
			good.Content = openapi3.NewContentWithSchema(&openapi3.Schema{Type: &openapi3.Types{"string"}, Format: "binary"}, []string{"application/octet-stream"})
		} else {
			good.WithJSONSchemaRef(schema(t, gen, doc, op.gives))
		}
		o.AddResponse(200, good)
		o.AddResponse(0, openapi3.NewResponse().WithDescription("what is wrong").WithJSONSchemaRef(wrong))
		o.Responses.Set("default", o.Responses.Value("default"))
		doc.AddOperation(r.path, r.method, o)
	}
	said.check(t)
	return doc
}

// required are the fields that are always there.
func required(t reflect.Type, s *openapi3.Schema) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || strings.Contains(opts, "omit") || s.Properties[name] == nil || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
	}
	return names
}

func camel(p string) string {
	var out string
	for _, part := range strings.FieldsFunc(p, func(r rune) bool { return strings.ContainsRune("/{}.", r) }) {
		out += strings.ToUpper(part[:1]) + part[1:]
	}
	return out
}

func schema(t *testing.T, gen *openapi3gen.Generator, doc *openapi3.T, v any) *openapi3.SchemaRef {
	t.Helper()
	ref, err := gen.NewSchemaRefForValue(v, doc.Components.Schemas)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestOpenAPI holds that the document is what the routes are, and a valid one.
// With -update it is written.
func TestOpenAPI(t *testing.T) {
	doc := document(t)
	raw, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	file := path.Join("assets", "openapi.json")
	if *update {
		if err := os.WriteFile(file, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, raw) {
		t.Errorf("%s is not what the code says any more: go test ./web/ui -run TestOpenAPI -update", file)
	}
	load(t)
	var routes []string
	for _, r := range New(Options{}).apiRoutes() {
		routes = append(routes, r.method+" "+r.path)
	}
	if len(routes) != len(operations) {
		t.Errorf("%d routes, %d described", len(routes), len(operations))
	}
}

// load reads the document as a client does, and validates it.
func load(t *testing.T) *openapi3.T {
	t.Helper()
	raw, err := embedded.ReadFile("assets/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, item := range doc.Paths.Map() {
		for m, o := range item.Operations() {
			if cmp.Or(o.Summary, "") == "" || o.OperationID == "" {
				t.Errorf("%s %s is not described", m, p)
			}
		}
	}
	return doc
}
