package proxy

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/gorilla/mux"

	"github.com/sociable/sociable/internal/oci"
)

// methods are the handlers of one path.
type methods map[string]oci.Handler

func reads(h oci.Handler) methods { return methods{http.MethodGet: h, http.MethodHead: h} }

// newRouter takes any name and reference, so that a wrong one is answered with
// the code that says what is wrong, and not with a bare 404 or a redirect.
func (p *Proxy) newRouter() *mux.Router {
	m := mux.NewRouter().SkipClean(true)
	at := func(route *mux.Route, name string, ms methods) {
		route.Name(name).Handler(oci.Handler(func(w http.ResponseWriter, r *http.Request) error {
			h := ms[r.Method]
			if h == nil {
				return notAllowed(w, r, ms)
			}
			note(r).route = name
			return h(w, r)
		}))
	}
	around := func(name, word, variable string, ms methods) { at(m.MatcherFunc(nameAround(word, variable)), name, ms) }
	route := func(name, path, word string, ms methods) { // the word spares most requests most expressions
		at(m.MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool { return strings.Contains(r.URL.Path, word) }).Path(path), name, ms)
	}
	around(v2.RouteNameManifest, "/manifests/", "reference", methods{
		http.MethodGet: p.manifest, http.MethodHead: p.manifest, http.MethodPut: p.putManifest, http.MethodDelete: p.deleteManifest,
	})
	around("referrers", "/referrers/", "digest", reads(p.referrers))
	around(v2.RouteNameTags, "/tags/list", "", reads(p.tags))
	route(v2.RouteNameBlobUpload, "/v2/{name:(?s:.*)}/blobs/uploads{slash:/?}", "/blobs/uploads", methods{http.MethodPost: p.postUpload})
	route(v2.RouteNameBlobUploadChunk, "/v2/{name:(?s:.*)}/blobs/uploads/{id:[^/]*}", "/blobs/uploads/", methods{
		http.MethodGet: p.getUpload, http.MethodHead: p.getUpload, http.MethodPatch: p.patchUpload,
		http.MethodPut: p.putUpload, http.MethodDelete: p.deleteUpload,
	})
	around(v2.RouteNameBlob, "/blobs/", "digest", methods{
		http.MethodGet: p.blob, http.MethodHead: p.blob, http.MethodDelete: p.deleteBlob,
	})
	route(v2.RouteNameCatalog, "/v2/_catalog", "/v2/_catalog", reads(p.catalog))
	route(v2.RouteNameBase, "/v2{slash:/?}", "/v2", reads(p.base))
	m.NotFoundHandler = oci.Handler(unknownPath)
	return m
}

// notAllowed says what the path can be asked (RFC 9110 §15.5.6).
func notAllowed(w http.ResponseWriter, r *http.Request, ms methods) error {
	w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(ms)), ", "))
	return oci.NewError(errcode.ErrorCodeUnsupported, "%s is not supported here", r.Method)
}

// nameAround matches /v2/NAME, word and, unless variable is "", one more
// segment, and sets the variables. It does what an expression would: those would
// take more time than all else that a small answer needs here.
func nameAround(word, variable string) mux.MatcherFunc {
	return func(r *http.Request, match *mux.RouteMatch) bool {
		path, last := r.URL.Path, ""
		if variable != "" {
			i := strings.LastIndexByte(path, '/')
			path, last = path[:i+1], path[i+1:]
		}
		name, ok := strings.CutSuffix(path, word)
		if ok {
			name, ok = strings.CutPrefix(name, "/v2/")
		}
		if !ok {
			return false
		}
		match.Vars = map[string]string{"name": name}
		if variable != "" {
			match.Vars[variable] = last
		}
		return true
	}
}
