package ui

import (
	"mime"
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web"
)

// maxNames bounds the body of an export: the images of a large cluster.
const maxNames = 1 << 20

var errNoBundles = &oci.Error{Code: errcode.ErrorCodeUnsupported, Message: "nothing is exported or imported here"}

// export answers with a bundle.
func (u *UI) export(w http.ResponseWriter, r *http.Request) error {
	var q web.ExportRequest
	if err := receiveUpTo(maxNames, r, &q); err != nil {
		return err
	}
	if len(q.Names) == 0 {
		return bad("name the images")
	}
	if u.opt.Bundles == nil {
		return errNoBundles
	}
	return u.opt.Bundles.Export(w, r, q)
}

// importBundle takes a bundle. What a form of another site can send is not said to
// be a tar.
func (u *UI) importBundle(r *http.Request) (*web.ImportReport, error) {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/x-tar" {
		return nil, &oci.Error{Code: errcode.ErrorCodeUnsupported, Status: http.StatusUnsupportedMediaType, Message: "send the bundle, as Content-Type: application/x-tar"}
	}
	var o web.ImportOptions
	for _, p := range []struct {
		name string
		to   *bool
	}{{"no_pin", &o.NoPin}, {"no_wait", &o.NoWait}, {"trust_spans", &o.TrustSpans}} {
		switch s := r.URL.Query().Get(p.name); s {
		case "", "false":
		case "true":
			*p.to = true
		default:
			return nil, bad("%s is true or false, not %.20q", p.name, s)
		}
	}
	if u.opt.Bundles == nil {
		return nil, errNoBundles
	}
	return u.opt.Bundles.Import(r, o)
}
