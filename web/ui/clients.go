package ui

// client is how one client is configured: texts are templates of place.
type client struct {
	id, name, note string
	files          []struct{ name, text string }
}

type clientFile = struct{ name, text string }

var clients = []client{
	{
		"soci-snapshotter", "soci-snapshotter (lazy loading)",
		"It asks the host in the reference for indexes: name images with the proxy's address, as in the last line.",
		[]clientFile{
			{"/etc/soci-snapshotter-grpc/config.toml", `# soci_v1 finds indexes as referrers; soci_v2 uses images at <tag>-soci
[pull_modes.soci_v1]
enable = true

[pull_modes.soci_v2]
enable = true
{{if .Insecure}}
[[resolver.host."{{.Address}}".mirrors]]
host = "http://{{.Address}}/v2"
insecure = true
{{end}}`},
			{"/etc/containerd/config.toml", `version = 3
[proxy_plugins.soci]
type = "snapshot"
address = "/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock"
[proxy_plugins.soci.exports]
enable_remote_snapshot_annotations = "true"

# Kubernetes
[plugins."io.containerd.cri.v1.images"]
snapshotter = "soci"
disable_snapshot_annotations = false
`},
			{"$ lazily", `sudo systemctl restart soci-snapshotter containerd
sudo nerdctl run --snapshotter soci{{if .Insecure}} --insecure-registry{{end}} --rm -it {{.Address}}/{{.Image}}`},
		},
	},
	{
		"containerd", "containerd (mirror)",
		"One file for each registry; pulls by the images' own names then come here. containerd (2.x) needs config_path in its config.toml.",
		[]clientFile{
			{"/etc/containerd/config.toml", `{{if .Registries}}version = 3
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"
{{end}}`},
			{"{{with .Default}}/etc/containerd/certs.d/{{.}}/hosts.toml{{end}}", `{{if eq .Default "docker.io"}}server = "https://registry-1.docker.io"
{{else}}server = "https://{{.Default}}"
{{end}}[host."{{.Scheme}}://{{.Address}}"]
capabilities = ["pull", "resolve"]
`},
			{"$ the same for all registries", `{{$p := .}}{{range .Registries}}sudo mkdir -p /etc/containerd/certs.d/{{.}} && printf '[host."{{$p.Scheme}}://{{$p.Address}}"]\ncapabilities = ["pull", "resolve"]\n' | sudo tee /etc/containerd/certs.d/{{.}}/hosts.toml
{{end}}`},
		},
	},
	{
		"docker", "Docker Engine",
		"Docker asks mirrors for Docker Hub only; images of other registries are named with the proxy's address.",
		[]clientFile{
			{"/etc/docker/daemon.json", `{{$hub := eq .Default "docker.io"}}{{if or $hub .Insecure}}{
{{if $hub}}  "registry-mirrors": ["{{.Scheme}}://{{.Address}}"]{{end}}{{if and $hub .Insecure}},
{{end}}{{if .Insecure}}  "insecure-registries": ["{{.Address}}"]{{end}}
}{{end}}
`},
			{"$ then", `sudo systemctl restart docker && docker pull {{.Address}}/{{.Image}}`},
		},
	},
	{
		"podman", "podman, CRI-O, skopeo, buildah",
		"One block for each registry.",
		[]clientFile{{"/etc/containers/registries.conf.d/sociable.conf", `{{$p := .}}{{range .Registries}}[[registry]]
location = "{{.}}"
[[registry.mirror]]
location = "{{$p.Address}}/{{.}}"{{if $p.Insecure}}
insecure = true{{end}}

{{end}}`}},
	},
	{
		"k3s", "k3s, RKE2",
		"Restart the node's service afterwards.",
		[]clientFile{{"/etc/rancher/k3s/registries.yaml", `{{$p := .}}{{if .Registries}}mirrors:
{{range .Registries}}  {{.}}:
    endpoint: ["{{$p.Scheme}}://{{$p.Address}}"]
{{end}}{{end}}`}},
	},
	{
		"buildkit", "BuildKit",
		"For base images of builds; docker buildx takes the same file by --buildkitd-config.",
		[]clientFile{{"/etc/buildkit/buildkitd.toml", `{{$p := .}}{{range .Registries}}[registry."{{.}}"]
mirrors = ["{{$p.Address}}/{{.}}"]
{{end}}{{if .Insecure}}[registry."{{.Address}}"]
http = true
{{end}}`}},
	},
	{
		"stargz", "stargz-snapshotter",
		"It reads layers by ranges, as every lazy client does; name images with the proxy's address.",
		[]clientFile{{"/etc/containerd-stargz-grpc/config.toml", `[[resolver.host."{{.Address}}".mirrors]]
host = "{{.Address}}"{{if .Insecure}}
insecure = true{{end}}
`}},
	},
	{
		"crane", "skopeo, crane, oras, CI",
		"The reference itself.",
		[]clientFile{{"$ any of them", `crane pull{{if .Insecure}} --insecure{{end}} {{.Address}}/{{.Image}} redis.tar
skopeo copy{{if .Insecure}} --src-tls-verify=false{{end}} docker://{{.Address}}/{{.Image}} oci:redis
oras discover{{if .Insecure}} --plain-http{{end}} {{.Address}}/{{.Image}}
`}},
	},
	{
		"fargate", "AWS Fargate, ECR",
		"Fargate finds an index only in ECR, beside the image. This proxy pushes it there, where its own configuration has ECR among the upstreams (with all others that are wanted: the list replaces the usual one). Or an OCI layout takes image and index there.",
		[]clientFile{
			{"config.yml", `upstreams:
  123456789012.dkr.ecr.eu-central-1.amazonaws.com: {keychain: ecr}
  docker.io: {}
index:
  rules:
    - repositories: ["123456789012.dkr.ecr.eu-central-1.amazonaws.com/**"]
      publish_upstream: true
`},
			{"$ once an image, on this proxy's machine", `sociable index create 123456789012.dkr.ecr.eu-central-1.amazonaws.com/redis:7`},
			{"$ by a layout", `skopeo copy{{if .Insecure}} --src-tls-verify=false{{end}} docker://{{.Address}}/{{.Image}} oci:redis:7
sociable index create oci:redis:7
oras cp --recursive --from-oci-layout redis:7 123456789012.dkr.ecr.eu-central-1.amazonaws.com/redis:7
`},
		},
	},
}
