// Command snapshotter is soci-snapshotter v0.15.0 as a containerd snapshot
// plugin. Its public packages are the real ones; the project's own command is no
// module that a proxy has, and this stands in its place.
//
//	snapshotter ROOT SOCKET CONFIG.toml
//
// It listens on the unix socket until SIGTERM or SIGINT. The latter also unmounts.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/awslabs/soci-snapshotter/config"
	"github.com/awslabs/soci-snapshotter/fs"
	"github.com/awslabs/soci-snapshotter/metadata"
	"github.com/awslabs/soci-snapshotter/service"
	"github.com/awslabs/soci-snapshotter/service/keychain/dockerconfig"
	"github.com/awslabs/soci-snapshotter/ztoc"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: snapshotter ROOT SOCKET CONFIG.toml")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "snapshotter:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, socket, configFile string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	if err := service.Supported(root); err != nil {
		return fmt.Errorf("overlay over FUSE: %w", err)
	}
	cfg, err := config.NewConfigFromToml(configFile)
	if err != nil {
		return err
	}
	sn, err := open(ctx, root, cfg)
	if err != nil {
		return err
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(keepNamespace))
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(sn))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-served:
		return err
	case s := <-stop:
		server.Stop()
		if s == syscall.SIGINT {
			return sn.Close()
		}
		return nil
	}
}

// open makes the snapshotter over root, with its files' places in a database.
func open(ctx context.Context, root string, cfg *config.Config) (snapshots.Snapshotter, error) {
	db, err := bbolt.Open(filepath.Join(root, "metadata.db"), 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 64 << 20, NoSync: cfg.MetadataDBNoSync,
	})
	if err != nil {
		return nil, err
	}
	places := func(layer *io.SectionReader, toc ztoc.TOC, opts ...metadata.Option) (metadata.Reader, error) {
		return metadata.NewReader(db, layer, toc, opts...)
	}
	return service.NewSociSnapshotterService(ctx, root, &cfg.ServiceConfig,
		service.WithCredsFuncs(dockerconfig.NewDockerConfigKeychain(ctx)),
		service.WithFilesystemOptions(fs.WithMetadataStore(places)))
}

// keepNamespace passes containerd's namespace on to the calls that the
// snapshotter makes.
func keepNamespace(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if ns, ok := namespaces.Namespace(ctx); ok {
		ctx = namespaces.WithNamespace(ctx, ns)
	}
	return handle(ctx, req)
}
