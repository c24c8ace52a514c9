package events

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
)

// Media types of an envelope: what the distribution project's registry sends as
// version 2 and as version 3.
const (
	MediaTypeV1 = "application/vnd.docker.distribution.events.v1+json"
	MediaTypeV2 = "application/vnd.docker.distribution.events.v2+json"
)

// record is an event as it is sent (distribution, "Work with notifications").
type record struct {
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
	Action    string    `json:"action"`
	Target    target    `json:"target"`
	Request   request   `json:"request"`
	Actor     actor     `json:"actor"`
	Source    Source    `json:"source"`
	Reason    string    `json:"reason,omitempty"` // ours alone
}

type target struct {
	v1.Descriptor
	Length         int64           `json:"length,omitempty"` // the same as size, for old receivers
	Repository     string          `json:"repository,omitempty"`
	FromRepository string          `json:"fromRepository,omitempty"`
	URL            string          `json:"url,omitempty"`
	Tag            string          `json:"tag,omitempty"`
	References     []v1.Descriptor `json:"references,omitempty"`
}

type request struct {
	ID        string `json:"id"`
	Addr      string `json:"addr,omitempty"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method"`
	UserAgent string `json:"useragent"`
}

type actor struct {
	Name string `json:"name,omitempty"`
}

// Source is the server that an event is from.
type Source struct {
	Addr       string `json:"addr,omitempty"`       // host:port
	InstanceID string `json:"instanceID,omitempty"` // of this run
}

func encode(e *oci.Event, at time.Time, from Source) ([]byte, error) {
	r := record{
		ID: newID(), Timestamp: at, Action: string(e.Kind), Source: from, Reason: e.Reason,
		Target: target{
			Descriptor: e.Target, Length: e.Target.Size, Repository: name(e.Repo), FromRepository: name(e.FromRepo),
			Tag: e.Tag, References: e.References,
		},
	}
	if q := e.Request; q != nil {
		r.Request = request{ID: q.ID, Addr: q.Addr, Host: q.Host, Method: q.Method, UserAgent: q.UserAgent}
		r.Actor.Name = q.Actor
		if q.Host != "" && e.Target.Digest != "" {
			kind := "blobs"
			if oci.IsManifestType(e.Target.MediaType) {
				kind = "manifests"
			}
			r.Target.URL = q.Scheme + "://" + q.Host + "/v2/" + name(e.Repo) + "/" + kind + "/" + e.Target.Digest.String()
		}
	}
	body, err := json.Marshal(&r)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return body, nil
}

func name(r oci.Repo) string {
	if r == (oci.Repo{}) {
		return ""
	}
	return r.String()
}

// newID is a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
