package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestClientCertificateIsTold(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name string
		ends time.Duration
		want string
	}{
		{"expired", -time.Hour, "level=ERROR msg=\"the client certificate for the upstream has expired"},
		{"soon", CertificateNotice - time.Hour, "level=WARN msg=\"the client certificate for the upstream ends soon"},
		{"good", CertificateNotice + time.Hour, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := &shown{log: slog.New(slog.NewTextHandler(&out, nil))}
			c := &tls.Certificate{Leaf: &x509.Certificate{Subject: pkix.Name{CommonName: "us"}, NotAfter: now.Add(tt.ends)}}
			for range 3 {
				s.tell(c, now)
			}
			if got := out.String(); strings.Count(got, "msg=") != min(1, len(tt.want)) || !strings.Contains(got, tt.want) || tt.want != "" && !strings.Contains(got, `subject="CN=us"`) {
				t.Errorf("the log says %q, want once %q", got, tt.want)
			}
			before := out.Len()
			s.tell(c, now.Add(25*time.Hour))
			if again := out.Len() > before; again != (tt.want != "" || tt.name == "good") {
				t.Errorf("a day later it is told: %t", again)
			}
		})
	}
}
