package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sociable/sociable/internal/oci"
)

// The formats that are understood; "" is none of them.
const (
	formatDistribution = "distribution"
	formatECR          = "ecr"
	formatHarbor       = "harbor"
	formatDockerHub    = "dockerhub"
	formatGitHub       = "github"
)

// notification is what a registry told.
type notification struct {
	format  string
	pushes  []pushed
	ignored int // events that are no push of a manifest
}

// pushed is one push as it was told, not checked yet.
type pushed struct{ name, tag, digest string }

var (
	errJSON    = errors.New("it is not a JSON object")
	errForm    = errors.New("it is a form, and not a JSON object: set the webhook's content type to application/json")
	errUnknown = errors.New("it is none of the distribution project's, ECR's, Harbor's, Docker Hub's or GitHub's")
)

// parse reads a notification of any format, which its members tell.
func parse(h http.Header, body []byte) (notification, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(body, &doc); err != nil || doc == nil {
		if bytes.HasPrefix(body, []byte("payload=")) { // as GitHub sends it by default
			return notification{}, errForm
		}
		return notification{}, errJSON
	}
	has := func(keys ...string) bool {
		for _, k := range keys {
			if _, ok := doc[k]; !ok {
				return false
			}
		}
		return true
	}
	var n notification
	var err error
	switch {
	case h.Get("X-GitHub-Event") != "", has("registry_package"), has("action", "package"):
		n, err = parseGitHub(h.Get("X-GitHub-Event"), body)
		n.format = formatGitHub
	case has("events"):
		n, err = parseDistribution(body)
		n.format = formatDistribution
	case has("detail-type", "detail"):
		n, err = parseECR(body)
		n.format = formatECR
	case has("event_data"), has("specversion", "data"):
		n, err = parseHarbor(body)
		n.format = formatHarbor
	case has("push_data", "repository"):
		n, err = parseDockerHub(body)
		n.format = formatDockerHub
	default:
		return n, errUnknown
	}
	if err != nil {
		return n, fmt.Errorf("as %s's: %w", n.format, err)
	}
	return n, nil
}

// read decodes JSON; its error says where it is of another shape.
func read(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s is a %s", e.Field, e.Value)
	}
	if err != nil {
		return errJSON
	}
	return nil
}

// parseDistribution reads the envelope of the distribution project's registry
// ("Work with notifications").
func parseDistribution(body []byte) (n notification, err error) {
	var doc struct {
		Events []struct {
			Action string `json:"action"`
			Target struct {
				MediaType  string `json:"mediaType"`
				Digest     string `json:"digest"`
				Repository string `json:"repository"`
				Tag        string `json:"tag"`
			} `json:"target"`
		} `json:"events"`
	}
	if err := read(body, &doc); err != nil {
		return n, err
	}
	for _, e := range doc.Events {
		if e.Action != "push" || !isManifest(e.Target.MediaType) {
			n.ignored++
			continue
		}
		n.pushes = append(n.pushes, pushed{e.Target.Repository, e.Target.Tag, e.Target.Digest})
	}
	return n, nil
}

// isManifest reports a media type that an image may have; "" may be one.
func isManifest(mediaType string) bool {
	for _, t := range oci.ManifestTypes {
		if mediaType == t {
			return true
		}
	}
	return mediaType == ""
}

// parseECR reads an "ECR Image Action" as EventBridge delivers it ("Amazon ECR
// events and EventBridge").
func parseECR(body []byte) (n notification, err error) {
	var doc struct {
		Type   string `json:"detail-type"`
		Source string `json:"source"`
		Detail struct {
			Result     string `json:"result"`
			Action     string `json:"action-type"`
			Repository string `json:"repository-name"`
			Digest     string `json:"image-digest"`
			Tag        string `json:"image-tag"`
		} `json:"detail"`
	}
	if err := read(body, &doc); err != nil {
		return n, err
	}
	d := doc.Detail
	if doc.Type != "ECR Image Action" || d.Action != "PUSH" || d.Result != "SUCCESS" {
		n.ignored = 1
		return n, nil
	}
	n.pushes = []pushed{{d.Repository, d.Tag, d.Digest}}
	return n, nil
}

// parseHarbor reads Harbor's webhook, in its own format or as a CloudEvent.
func parseHarbor(body []byte) (n notification, err error) {
	type data struct {
		Resources []struct {
			Digest string `json:"digest"`
			Tag    string `json:"tag"`
		} `json:"resources"`
		Repository struct {
			FullName string `json:"repo_full_name"`
		} `json:"repository"`
	}
	var doc struct {
		Type  string `json:"type"`
		Event data   `json:"event_data"`
		Data  data   `json:"data"`
	}
	if err := read(body, &doc); err != nil {
		return n, err
	}
	d := doc.Event
	switch doc.Type {
	case "PUSH_ARTIFACT":
	case "harbor.artifact.pushed":
		d = doc.Data
	default:
		n.ignored = 1
		return n, nil
	}
	for _, r := range d.Resources {
		tag := r.Tag
		if strings.Contains(tag, ":") { // by digest alone, some versions give that as tag
			tag = ""
		}
		n.pushes = append(n.pushes, pushed{d.Repository.FullName, tag, r.Digest})
	}
	return n, nil
}

// parseDockerHub reads Docker Hub's webhook, which tells no digest.
func parseDockerHub(body []byte) (n notification, err error) {
	var doc struct {
		Push struct {
			Tag string `json:"tag"`
		} `json:"push_data"`
		Repository struct {
			Name string `json:"repo_name"`
		} `json:"repository"`
	}
	if err := read(body, &doc); err != nil {
		return n, err
	}
	n.pushes = []pushed{{doc.Repository.Name, doc.Push.Tag, ""}}
	return n, nil
}

// parseGitHub reads a registry_package or package webhook of GitHub's container
// registry. Every other event, ping is one, is ignored.
func parseGitHub(event string, body []byte) (n notification, err error) {
	type versioned struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		Ecosystem string `json:"ecosystem"`
		Type      string `json:"package_type"`
		Owner     struct {
			Login string `json:"login"`
		} `json:"owner"`
		Version struct {
			Version   string `json:"version"`
			Container struct {
				Tag struct {
					Name   string `json:"name"`
					Digest string `json:"digest"`
				} `json:"tag"`
			} `json:"container_metadata"`
		} `json:"package_version"`
	}
	var doc struct {
		Action   string    `json:"action"`
		Package  versioned `json:"package"`
		Registry versioned `json:"registry_package"`
	}
	if event != "" && event != "registry_package" && event != "package" {
		n.ignored = 1
		return n, nil
	}
	if err := read(body, &doc); err != nil {
		return n, err
	}
	p := doc.Registry
	if p.Name == "" {
		p = doc.Package
	}
	container := strings.EqualFold(p.Type, "container") || strings.EqualFold(p.Ecosystem, "container")
	if !container || doc.Action != "published" && doc.Action != "updated" {
		n.ignored = 1
		return n, nil
	}
	owner := p.Namespace
	if owner == "" {
		owner = p.Owner.Login
	}
	x := pushed{strings.ToLower(owner + "/" + p.Name), p.Version.Container.Tag.Name, p.Version.Container.Tag.Digest}
	if x.digest == "" && strings.HasPrefix(p.Version.Version, "sha256:") {
		x.digest = p.Version.Version
	}
	n.pushes = []pushed{x}
	return n, nil
}
