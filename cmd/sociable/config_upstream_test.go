package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUpstreamMistakes is TestMistakes for the keys of one upstream.
func TestUpstreamMistakes(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       []string
	}{
		{"bounds", "upstreams:\n  a.b: {max_connections: 8, max_transfers: 4, requests_per_minute: 100, bytes_per_second: 10MB,\n" +
			"    breaker_failures: 3, breaker_pause: 1s, retries: 0, dial_timeout: 1s, header_timeout: 2s}\n", nil},
		{"amounts", "upstreams:\n  a.b:\n    max_transfers: -1\n    retries: -1\n    requests_per_minute: -1\n    breaker_failures: 0\n" +
			"    breaker_pause: 0s\n    dial_timeout: 0s\n    header_timeout: 0s\n    bytes_per_second: fast\n", []string{
			"3: upstreams.a.b.max_transfers: want at least 0, which is seven eighths of max_connections",
			"4: upstreams.a.b.retries: want at least 0, which is never",
			"5: upstreams.a.b.requests_per_minute: want at least 0, which is any number",
			"6: upstreams.a.b.breaker_failures: want at least 1",
			"7: upstreams.a.b.breaker_pause: want more than 0",
			"8: upstreams.a.b.dial_timeout: want more than 0",
			"9: upstreams.a.b.header_timeout: want more than 0",
			`10: upstreams.a.b.bytes_per_second: "fast" is not a size: write 4MiB, 10GB or a number of bytes`,
		}},
		{"more transfers than connections", "upstreams:\n  a.b: {max_connections: 4, max_transfers: 5}\n", []string{
			"2: upstreams.a.b.max_transfers: 5 transfers would need more than the 4 of max_connections",
		}},
		{"ways", "upstreams:\n  a.b:\n    mirrors: [https://m.example, http://127.0.0.1:5000/docker.io/]\n    keychain: docker\n    docker_config: config.json\n" +
			"    headers: ['X-Team: web', 'X-Empty:']\n    proxy: http://u:p@proxy.example:3128\n", nil},
		{"no ways", "upstreams:\n  a.b:\n    mirrors: [m.example,\n      https://u:hunter2@m.example,\n      https://m.example/v2/x,\n      https://m.example/X,\n      'https://m.example/x?y']\n" +
			"    docker_config: /x\n    headers: [hunter2]\n    proxy: hunter2\n    client_key_file: /k\n  c.d: {headers: ['authorization: hunter2'], keychain: docker, username: u, password: p}\n", []string{
			`3: upstreams.a.b.mirrors: "m.example" is not a registry's address; write https://host, or https://host/path where the images have that path there`,
			"4: upstreams.a.b.mirrors: must not hold a user or password; a keychain has them by host",
			`5: upstreams.a.b.mirrors: "https://m.example/v2/x": leave the v2 out, it is understood`,
			`6: upstreams.a.b.mirrors: "https://m.example/X": its path can't begin a repository's name`,
			`7: upstreams.a.b.mirrors: "https://m.example/x?y" must end after its path`,
			`8: upstreams.a.b.docker_config: has no effect without the line "keychain: docker"`,
			`9: upstreams.a.b.headers: number 1 is not a header; write "Name: value"`,
			`10: upstreams.a.b.proxy: want http://host:port, https:// or socks5://, or "none"`,
			"11: upstreams.a.b: client_cert_file and client_key_file belong together",
			"12: upstreams.c.d: has both username and keychain; keep one",
			"12: upstreams.c.d.headers: Authorization is not free to be set",
		}},
		{"another keychain", "upstreams:\n  a.b: {keychain: vault}\n", []string{`2: upstreams.a.b.keychain: want "", "docker", "ecr", "gcr" or "acr", got "vault"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, text := range map[string]string{"config.yml": tt.file, "config.json": "{}"} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := load(sources{File: "config.yml"})
			if diff := cmp.Diff(tt.want, mistakesOf(err)); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKeychainDoubts names a cloud's keychain for a registry that is none of
// its.
func TestKeychainDoubts(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "upstreams:\n  1.dkr.ecr.eu-west-1.amazonaws.com: {keychain: ecr}\n  eu-docker.pkg.dev: {keychain: gcr}\n" +
		"  a.azurecr.io: {keychain: acr}\n  b.example: {keychain: gcr}\n  c.example: {keychain: docker}\n"
	if err := os.WriteFile("config.yml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, got, err := load(sources{File: "config.yml"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"config.yml:5: upstreams.b.example.keychain: gcr has no credentials for b.example, only for hosts that end in gcr.io, .pkg.dev, .google.com"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}
