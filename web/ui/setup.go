package ui

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"text/template"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/web/catalog"
)

// Setup is how clients are pointed here.
type Setup struct {
	Address   string        `json:"address"` // host:port of the registry, as the page's reader reaches this machine
	Scheme    string        `json:"scheme"`
	Upstreams []Upstream    `json:"upstreams"`
	Clients   []ClientSetup `json:"clients"`
}

// ClientSetup is the configuration of one client.
type ClientSetup struct {
	ID    string      `json:"id"`
	Name  string      `json:"name"`
	Note  string      `json:"note"`
	Files []SetupFile `json:"files"`
}

// SetupFile is a file of it, or with a Name that begins with $ a command.
type SetupFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// place is what the templates of configurations are filled with.
type place struct {
	Address, Host, Scheme string
	Insecure              bool
	Default               string   // of Registries; "" where names without one lead to none
	Image                 string   // an example
	Registries            []string // upstreams that other names than ours lead to
}

func (u *UI) place(r *http.Request) place {
	host, port, err := net.SplitHostPort(u.opt.Listen)
	if err != nil {
		host = u.opt.Listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = hostOf(r.Host) // by which the reader reached us
	}
	p := place{Host: host, Address: net.JoinHostPort(host, port), Scheme: "http", Insecure: !u.opt.TLS, Default: u.opt.Default}
	if u.opt.TLS {
		p.Scheme = "https"
	}
	if u.opt.Upstreams != nil {
		for _, x := range u.opt.Upstreams() {
			if !x.Hosted && strings.ContainsAny(x.Name, ".:") {
				p.Registries = append(p.Registries, x.Name)
			}
		}
	}
	return p
}

func (u *UI) setup(r *http.Request) (*Setup, error) {
	p := u.place(r)
	s := &Setup{Address: p.Address, Scheme: p.Scheme, Upstreams: []Upstream{}}
	if u.opt.Upstreams != nil {
		s.Upstreams = append(s.Upstreams, u.opt.Upstreams()...)
	}
	p.Image = exampleOf(s.Upstreams)
	if !slices.Contains(p.Registries, p.Default) {
		p.Default = ""
	}
	for _, c := range clients {
		out := ClientSetup{ID: c.id, Name: c.name, Note: c.note}
		for _, f := range c.files {
			text, err := fillIn(f.text, p)
			if err != nil {
				return nil, err
			}
			name, err := fillIn(f.name, p)
			if err != nil {
				return nil, err
			}
			if name, text = strings.TrimSpace(name), strings.TrimSpace(text); name != "" && text != "" { // else it is for registries that are not here
				out.Files = append(out.Files, SetupFile{name, text + "\n"})
			}
		}
		if len(out.Files) == 0 {
			out.Files = append(out.Files, SetupFile{"$ no registry is mirrored here: name images with this proxy's address", p.Address + "/" + p.Image + "\n"})
		}
		s.Clients = append(s.Clients, out)
	}
	return s, nil
}

// exampleOf is an image to show how names begin: one of Docker Hub, where that is an
// upstream, and else of the first that is pulled from.
func exampleOf(list []Upstream) string {
	name := ""
	for _, up := range list {
		switch {
		case up.Name == "docker.io" && !up.Hosted:
			return "docker.io/library/redis:7"
		case name == "" && !up.Hosted:
			name = up.Name
		}
	}
	if name == "" && len(list) > 0 {
		name = list[0].Name
	}
	return cmp.Or(name, "UPSTREAM") + "/IMAGE:TAG"
}

func fillIn(text string, v any) (string, error) {
	t, err := template.New("").Parse(text)
	if err != nil {
		return "", fmt.Errorf("a client's configuration: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return "", fmt.Errorf("a client's configuration: %w", err)
	}
	return strings.TrimSpace(out.String()) + "\n", nil
}

// Command is a line to copy.
type Command struct {
	Client string `json:"client"`
	Text   string `json:"text"`
}

// commands run an image through this proxy, with every client.
func (u *UI) commands(r *http.Request, x *catalog.Image) []Command {
	if x.Repository == "" {
		return []Command{}
	}
	p := u.place(r)
	ref := p.Address + "/" + x.Reference
	flag := func(s string) string {
		if p.Insecure {
			return s
		}
		return ""
	}
	list := []Command{
		{"soci-snapshotter", "sudo nerdctl run --snapshotter soci" + flag(" --insecure-registry") + " --rm -it " + ref},
		{"soci-snapshotter, ctr", "sudo ctr images pull --snapshotter soci" + flag(" --plain-http") + " " + ref},
		{"Docker", "docker pull " + ref},
		{"containerd", "sudo ctr images pull" + flag(" --plain-http") + " " + ref},
		{"nerdctl", "sudo nerdctl pull" + flag(" --insecure-registry") + " " + ref},
		{"podman", "podman pull" + flag(" --tls-verify=false") + " " + ref},
		{"Kubernetes", "image: " + ref},
		{"skopeo", "skopeo inspect" + flag(" --tls-verify=false") + " docker://" + ref},
		{"crane", "crane pull" + flag(" --insecure") + " " + ref + " image.tar"},
		{"oras", "oras discover" + flag(" --plain-http") + " " + ref},
		{"regctl", flag("regctl registry set --tls disabled "+p.Address+" && ") + "regctl image inspect " + ref},
		{"sociable", "sociable index info " + x.Reference},
	}
	return list
}

// TestResult is what came of walking a client's way.
type TestResult struct {
	Reference string `json:"reference"`
	Steps     []Step `json:"findings"`
}

// test walks the way of a lazy client to this registry, and to an image of it.
// Nothing but this proxy's own listener is ever asked.
func (u *UI) test(r *http.Request, image string) (*TestResult, error) {
	if u.opt.Test == nil || u.opt.Name == nil {
		return nil, oci.NewError(errcode.ErrorCodeUnsupported, "there is no test here")
	}
	ref := u.place(r).Address
	if image == "" {
		image = u.newest()
	}
	if image != "" {
		name, err := u.named(image)
		if err != nil {
			return nil, err
		}
		ref += "/" + name
	}
	return &TestResult{ref, u.opt.Test(r.Context(), ref)}, nil
}

// newest is the image that was pulled last, rather one that has an index.
func (u *UI) newest() (image string) {
	for _, x := range u.opt.Catalog.Page(catalog.Query{Sort: catalog.ByLastPull, Down: true, Limit: 20}).Images {
		if x.Repository == "" {
			continue
		}
		if x.Index != "" {
			return x.Reference
		}
		if image == "" {
			image = x.Reference
		}
	}
	return image
}

// named writes out an image's name as the list of images has it, in whatever
// spelling it comes. It is of an upstream of this proxy's, or an error.
func (u *UI) named(word string) (string, error) {
	repo, ref, err := u.opt.Name(word)
	if err != nil {
		return "", err
	}
	between := ":"
	if ref.Digest != "" {
		between = "@"
	}
	return repo.String() + between + ref.String(), nil
}
