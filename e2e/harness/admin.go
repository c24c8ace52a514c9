package harness

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
)

// AdminClient speaks to the proxy over the socket in its data folder, whatever
// host a request names.
func (x *Proxy) AdminClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(x.Data, "admin.sock"))
	}}}
}
