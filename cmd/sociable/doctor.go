package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/sociable/sociable/internal/doctor"
	"github.com/sociable/sociable/internal/upstream"
)

// Where a node's files usually are.
const (
	snapshotterFile = "/etc/soci-snapshotter-grpc/config.toml"
	containerdFile  = "/etc/containerd/config.toml"
	hostsFolder     = "/etc/containerd/certs.d"
)

// proxyVariable names the proxy for doctor. It is no setting of the server's.
const proxyVariable = "SOCIABLE_PROXY"

type doctorFlags struct {
	proxy, platform, caFile, docker string
	node, asJSON                    bool
	snapshotter, containerd, hosts  string
}

func newDoctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor [IMAGE]",
		Short: "Go the way of a lazily loading client, and say what is wrong",
		Long: `Go the way of a lazily loading client, from the name of the proxy's host to one
span of each layer, and say in words what is wrong and how to mend it. Run it where
the clients are; it needs no access to the proxy's files. IMAGE is named as
clients do; a name without the proxy's host is looked for at --proxy, which reads
it as it does theirs: lab/acme/app is of its upstream lab, redis of its default.
With --node, the files of this machine's containerd and soci-snapshotter are read, too.
On a terminal verdicts have colours, unless NO_COLOR is set.`,
		Example: `  sociable doctor --proxy proxy.example:5000
  sociable doctor proxy.example:5000/docker.io/library/redis:7
  sociable doctor --node --proxy proxy.example:5000 redis:7`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.proxy == "" {
				f.proxy = cmp.Or(os.Getenv(proxyVariable), "127.0.0.1:5000")
			}
			if strings.Contains(f.proxy, "/") {
				return usageError{error: fmt.Errorf("--proxy %q: want HOST:PORT, as it stands in front of an image's name", f.proxy)}
			}
			return f.run(cmd, args)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.proxy, "proxy", "", "the proxy's `HOST:PORT`, as clients name it ($SOCIABLE_PROXY, or else 127.0.0.1:5000)")
	fs.StringVarP(&f.platform, "platform", "p", "", "look at the image for `OS/ARCHITECTURE` (of one for several: linux and this machine's)")
	fs.StringVar(&f.caFile, "ca-file", "", "PEM `FILE` of authorities to trust instead of the system's")
	fs.StringVar(&f.docker, "docker-config", "", "Docker's configuration `FILE` with the credentials (as docker login leaves them)")
	fs.BoolVar(&f.node, "node", false, "read this machine's configuration of containerd and soci-snapshotter, too")
	fs.StringVar(&f.snapshotter, "snapshotter-config", snapshotterFile, "with --node: soci-snapshotter's `FILE`")
	fs.StringVar(&f.containerd, "containerd-config", containerdFile, "with --node: containerd's `FILE`")
	fs.StringVar(&f.hosts, "hosts-dir", hostsFolder, "with --node: the `FOLDER` of hosts.toml files")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON document")
	return cmd
}

// errIllness is the exit code of a doctor that found something.
var errIllness = errors.New("lazy loading does not work; what is marked FAIL says why")

func (f *doctorFlags) run(cmd *cobra.Command, args []string) error {
	o, err := f.options(args)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	var reports []doctor.Report
	tell := func(x doctor.Finding) { printFinding(out, x) }
	if f.asJSON {
		tell = nil
	}
	if f.node {
		reports = append(reports, doctor.Node(doctor.NodeOptions{
			Snapshotter: f.snapshotter, Containerd: f.containerd, Hosts: f.hosts, Proxy: f.proxy, Tell: tell,
		}))
	}
	o.Tell = tell
	report, err := doctor.Walk(cmd.Context(), o)
	if err != nil {
		return usageError{error: err}
	}
	reports = append(reports, report)
	if f.asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(reports); err != nil {
			return err
		}
	}
	for i := range reports {
		if reports[i].Worst() == doctor.Fail {
			return errIllness
		}
	}
	return nil
}

func (f *doctorFlags) options(args []string) (doctor.Options, error) {
	o := doctor.Options{Reference: f.proxy, Platform: f.platform, Keychain: upstream.DockerKeychain(f.docker)}
	if len(args) > 0 {
		var err error
		if o.Reference, err = f.reference(args[0]); err != nil {
			return o, usageError{error: err}
		}
	}
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return o, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return o, fmt.Errorf("%s holds no certificate in PEM", f.caFile)
		}
		o.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return o, nil
}

// reference puts the proxy's host in front of an image that lacks it. One that
// has it begins with the host of --proxy, with a port, or with a host before
// another host.
func (f *doctorFlags) reference(image string) (string, error) {
	first, rest, _ := strings.Cut(image, "/")
	second, _, deeper := strings.Cut(rest, "/")
	if rest != "" && (first == f.proxy || strings.Contains(first, ":") || deeper && isHostName(first) && isHostName(second)) {
		return image, nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", image, err)
	}
	if rest == "" || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return f.proxy + "/" + image, nil // which upstream is meant is for the proxy to say
	}
	return f.proxy + "/" + named.String(), nil
}

func printFinding(w io.Writer, x doctor.Finding) {
	mark := map[doctor.Verdict]string{doctor.OK: "ok  ", doctor.Warn: "WARN", doctor.Fail: "FAIL"}[x.Verdict]
	if takesColour(w) {
		mark = map[doctor.Verdict]string{doctor.OK: green, doctor.Warn: yellow, doctor.Fail: red}[x.Verdict] + mark + plain
	}
	_, _ = fmt.Fprintf(w, "%s  %-11s  %s\n", mark, x.Step, x.What)
	if x.Mend != "" {
		_, _ = fmt.Fprintf(w, "      %-11s  → %s\n", "", x.Mend)
	}
}
