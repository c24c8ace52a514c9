package ui

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/gorilla/mux"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// apiRoutes are the paths below /api/v1; openapi.json describes each.
func (u *UI) apiRoutes() []apiRoute {
	return append([]apiRoute{
		{"GET", "/overview", "range", answer(u.overview)},
		{"GET", "/images", "q sort order offset limit", answer(u.images)},
		{"GET", "/images/{digest}", "", answer(u.image)},
		{"GET", "/layers/{digest}", "image", answer(u.layer)},
		{"GET", "/layers/{digest}/files", "image path search", answer(u.files)},
		{"GET", "/layers/{digest}/file", "image name", u.file},
		{"GET", "/layers/{digest}/ztoc", "image", u.ztoc},
		{"GET", "/layers/{digest}/checkpoints", "image offset limit", answer(u.checkpoints)},
		{"GET", "/jobs", "", answer(func(r *http.Request) (*Jobs, error) {
			j, err := u.allJobs(r.Context())
			return &j, err
		})},
		{"POST", "/jobs/retry", "", u.changeJobs(web.RetryJob)},
		{"POST", "/jobs/cancel", "", u.changeJobs(web.CancelJob)},
		{"POST", "/jobs/clear", "", u.changeJobs(web.ClearJob)},
		{"GET", "/missing", "", answer(func(r *http.Request) (*[]web.MissingThing, error) {
			list, err := web.MissingThings(r.Context(), u.opt.Store)
			return &list, err
		})},
		{"GET", "/setup", "", answer(u.setup)},
		{"POST", "/setup/test", "", answer(func(r *http.Request) (*TestResult, error) {
			var q TestOf
			if err := receive(r, &q); err != nil {
				return nil, err
			}
			return u.test(r, q.Image)
		})},
		{"GET", "/openapi.json", "", openAPI},
	}, append(u.operateRoutes(), u.eventRoutes()...)...)
}

type apiRoute struct {
	method, path string
	query        string // the parameters that it takes, with spaces between
	serve        oci.Handler
}

// strict refuses parameters that the route does not take: one that is misspelt, or
// given twice, would be without effect, in silence.
func (x apiRoute) strict(w http.ResponseWriter, r *http.Request) error {
	takes := strings.Fields(x.query)
	given := r.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch {
		case slices.Contains(takes, name) && len(given[name]) > 1:
			return bad("%s is given %d times: this takes one", name, len(given[name]))
		case slices.Contains(takes, name):
		case len(takes) == 0:
			return bad("there is no parameter %.50q: this takes none", name)
		default:
			return bad("there is no parameter %.50q: this takes %s", name, strings.Join(takes, ", "))
		}
	}
	return x.serve(w, r)
}

// JobNamed is the body of requests about jobs.
type JobNamed struct {
	ID string `json:"id"` // of the job; "": all that failed
}

// TestOf is the body of a request for a test.
type TestOf struct {
	Image string `json:"image"` // in any spelling; "": the one that was pulled last
}

// changeJobs is a request that changes the job that its body names, or several.
func (u *UI) changeJobs(change changeJob) oci.Handler {
	return answer(func(r *http.Request) (*Changed, error) {
		var q JobNamed
		if err := receive(r, &q); err != nil {
			return nil, err
		}
		c, err := u.change(r.Context(), q.ID, change)
		return &c, err
	})
}

func (u *UI) api(m *mux.Router) {
	allowed := map[string]string{}
	for _, x := range u.apiRoutes() {
		methods := []string{x.method}
		if x.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		m.Methods(methods...).Path("/api/v1" + x.path).Handler(oci.Handler(x.strict))
		allowed["/api/v1"+x.path] = x.method
	}
	for path, method := range allowed {
		m.Path(path).Handler(oci.Handler(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Allow", method)
			return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusMethodNotAllowed, Message: "this takes " + method}
		}))
	}
	m.PathPrefix("/api/").Handler(oci.Handler(func(http.ResponseWriter, *http.Request) error {
		return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusNotFound, Message: "there is no such resource; see /api/v1/openapi.json"}
	}))
}

// answer sends what get gives as JSON.
func answer[T any](get func(*http.Request) (*T, error)) oci.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := get(r)
		if err != nil {
			return err
		}
		body, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that left is nobody's loss
		return nil
	}
}

// receive reads a small JSON body. That it is said to be one keeps the forms of
// other sites out, whatever the browser.
func receive(r *http.Request, into any) error { return receiveUpTo(4096, r, into) }

func receiveUpTo(most int64, r *http.Request, into any) error {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/json" {
		return &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusUnsupportedMediaType, Message: "send JSON, as Content-Type: application/json"}
	}
	return web.ReadJSON(http.MaxBytesReader(nil, r.Body, most), into)
}

func openAPI(w http.ResponseWriter, _ *http.Request) error {
	body, err := embedded.ReadFile("assets/openapi.json")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that left is nobody's loss
	return nil
}
