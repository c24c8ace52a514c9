package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMistakes: each mistake is named once, with its line and what to write.
func TestMistakes(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string // lines of the error, without "config.yml:"
	}{
		{"nothing", "# all defaults\n", nil},
		{"sections without keys", "log:\nstorage:\nupstreams: {ghcr.io: }\n", nil},
		{"unknown keys", "upstrems: {}\nstorage:\n  max_byte: 1GB\nmax_bytes: 1GB\nlog: {colour: red}\n", []string{
			`1: unknown key "upstrems"; did you mean "upstreams"?`,
			`3: unknown key "max_byte"; did you mean "max_bytes"?`,
			`4: unknown key "max_bytes"; did you mean storage.max_bytes?`,
			`5: unknown key "colour"; known in log: level, format`,
		}},
		{"unknown key of an upstream and of a rule", "upstreams:\n  ghcr.io:\n    pasword: hunter2\nindex:\n  rules:\n    - min_layersize: 1\n", []string{
			`3: unknown key "pasword"; did you mean "password"?`,
			`6: unknown key "min_layersize"; did you mean "min_layer_size"?`,
		}},
		{"duplicate keys", "listen: 127.0.0.1:1\nlog: {level: info,\n  level: warn}\nlisten: 127.0.0.1:2\n", []string{
			"3: log.level: given twice, first in line 2",
			"4: listen: given twice, first in line 1",
		}},
		{"wrong types", "listen: [a]\nadmin: x\nstorage: {max_bytes: {}}\nindex: {enabled: yes, workers: many, rules: {}}\nupstreams: []\naccess:\nshutdown_timeout: 30\n", []string{
			"1: listen: want a string, got a list",
			"2: admin: want keys and values, got a single value",
			"3: storage.max_bytes: want a size such as 10GB or 80%, got keys and values",
			`4: index.enabled: want true or false, got "yes"`,
			`4: index.workers: want a whole number, got "many"`,
			"4: index.rules: want a list, got keys and values",
			"5: upstreams: want keys and values, got a list",
			"6: access: has no value; write a string or remove the line",
			`7: shutdown_timeout: "30" is not a duration: write 500ms, 30s, 5m or 24h`,
		}},
		{"not a mapping", "- a\n", []string{"1: want keys and values, got a list"}},
		{"syntax", "listen: 127.0.0.1:1\n\tx: 1\n", []string{"2: found a tab character that violates indentation"}},
		{"secret taken for an anchor", "upstreams: {ghcr.io: {username: u, password: *hunter2}}\n", []string{
			"unknown anchor; quote a value that begins with *",
		}},
		{"two documents", "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n", []string{"2: a second document begins here; there can be only one"}},
		{"merge", "log: &l {level: info}\nadmin: {<<: *l}\n", []string{"2: merging (<<) is not supported; write the keys out"}},
		{"followed without a pause", "prewarm: {jobs: [{images: ['redis:7'], schedule: '@every 0s'}]}\n", []string{
			`1: prewarm.jobs[0].schedule: "@every 0s" is not a schedule: want at least a second between; write "*/15 * * * *", @hourly or @every 10m`,
		}},
		{"followed images", "prewarm:\n  parallel: 0\n  jobs:\n    - images: ['redis:7', 'ghcr.io/a/*', 'x:[']\n      platforms: [linux]\n      schedule: often\n", []string{
			`2: prewarm.parallel: want at least 1; to follow no image name none`,
			`4: prewarm.jobs[0].images: "ghcr.io/a/*" is not an image; write redis:7, or ghcr.io/acme/app:1.* for tags of a form`,
			`4: prewarm.jobs[0].images: "x:[" is not an image; write redis:7, or ghcr.io/acme/app:1.* for tags of a form`,
			`5: prewarm.jobs[0].platforms: "linux" is not a platform: write os/architecture, such as linux/arm64`,
			`6: prewarm.jobs[0].schedule: "often" is not a schedule: expected exactly 5 fields, found 1: [often]; write "*/15 * * * *", @hourly or @every 10m`,
		}},
		{"sizes and shares", "storage: {max_bytes: 4 parsecs,\n min_free: 101%}\nindex: {rules: [{span_size: 1KiB,\n  min_layer_size: -1}]}\n", []string{
			`1: storage.max_bytes: "4 parsecs" is not a size: write 10GB, 4GiB, a number of bytes, or 80% of the file system`,
			`2: storage.min_free: "101%" is not a share: write a percentage from 0% to 100%`,
			`3: index.rules[0].span_size: want 4KiB to 1GiB, got 1KiB`,
			`4: index.rules[0].min_layer_size: "-1" is not a size: write 4MiB, 10GB or a number of bytes`,
		}},
		{"amounts", "storage: {path: '', max_bytes: 0, min_free: 100%}\nindex: {workers: 0}\nreferrers: {upstream_timeout: 0s}\nupstreams: {a.b: {max_connections: 0, tag_timeout: 0s, stall_timeout: -1s}}\n", []string{
			"1: storage.path: names no folder",
			"1: storage.max_bytes: nothing could be stored in 0 bytes",
			"1: storage.min_free: nothing could be stored with 100% left free",
			"2: index.workers: want at least 1; to index nothing write enabled: false",
			"3: referrers.upstream_timeout: want more than 0",
			"4: upstreams.a.b.stall_timeout: a duration can't be negative",
			"4: upstreams.a.b.tag_timeout: want more than 0",
			"4: upstreams.a.b.max_connections: want at least 1",
		}},
		{"values outside their set", "log: {level: verbose, format: xml}\nstorage: {on_disconnect: go}\naccess: opn\nindex: {rules: [{publish: v3, v2_at: x}]}\n", []string{
			`1: log.level: want "debug", "info", "warn" or "error", got "verbose"`,
			`1: log.format: want "text" or "json", got "xml"`,
			`2: storage.on_disconnect: want "finish" or "stop", got "go"`,
			`3: access: want "", "open" or "passthrough", got "opn"`,
			`4: index.rules[0].publish: want "both", "v1", "v2" or "none", got "v3"`,
			`4: index.rules[0].v2_at: want "suffix" or "tag", got "x"`,
		}},
		{"addresses", "listen: 5000\nadmin: {listen: \"a b:1\"}\n", []string{
			`1: listen: "5000" is not an address; write host:port, such as 127.0.0.1:5000`,
			`2: admin.listen: "a b" is neither an IP address nor a host name`,
		}},
		{"one address twice", "listen: 127.0.0.1:1\nadmin: {listen: 127.0.0.1:1}\n", []string{
			"2: admin.listen: 127.0.0.1:1 is the registry's own address; take another port",
		}},
		{"nothing to pull", "upstreams: {}\nhosted: {}\n", []string{
			"1: upstreams: names none, and hosted neither, so nothing could be pulled; without the key there are the well-known registries",
		}},
		{"default upstream of none", "upstreams: {}\nhosted: {lab: {}}\ndefault_upstream: lab\n", []string{
			`3: default_upstream: no upstream is named "lab"`,
		}},
		{"default upstream", "default_upstream: dokcer.io\n", []string{
			`1: default_upstream: no upstream is named "dokcer.io"; did you mean "docker.io"?`,
		}},
		{"urls", `upstreams:
  a: {}
  b: {url: "https://u:hunter2@b"}
  c: {url: ftp://c}
  d: {url: https://d/v2}
  e: {url: "https://e:99999"}
  f: {url: "https://f?x"}
  g: {url: ghcr.io}
  h: {url: "https://h/"}
`, []string{
			`2: upstreams.a.url: is missing, and "a" is no host name that it could be made from`,
			"3: upstreams.b.url: must not hold a user or password; use username and password_file",
			`4: upstreams.c.url: "ftp://c" is not a registry's address; write https://host or http://host:port`,
			`5: upstreams.d.url: "https://d/v2" must end after the host and port`,
			`6: upstreams.e.url: "e:99999" is not a host, or not a host and a port`,
			`7: upstreams.f.url: "https://f?x" must end after the host and port`,
			`8: upstreams.g.url: "ghcr.io" is not a registry's address; write https://host or http://host:port`,
		}},
		{"names", `upstreams:
  Upper.io: {url: "https://upper.io"}
  a.io:
    aliases: [x.y, b.io, "a/b"]
    hosts: [h.example, "h:1", H.example]
    token_realms: [ok.io, "https://a.io/token"]
  b.io: {aliases: [x.y],
    hosts: [h.example]}
`, []string{
			`2: upstreams: "Upper.io" can't stand first in a repository's name; use lower-case letters, digits, and single . _ or - between them`,
			`4: upstreams.a.io.aliases[1]: "b.io" is taken by upstreams.b.io (config.yml:7)`,
			`4: upstreams.a.io.aliases[2]: "a/b" can't stand first in a repository's name`,
			`5: upstreams.a.io.hosts[1]: "h:1" is not a host name; write it in lower case, without a port`,
			`5: upstreams.a.io.hosts[2]: "H.example" is not a host name; write it in lower case, without a port`,
			`6: upstreams.a.io.token_realms: "https://a.io/token" is not a host; write it as in auth.docker.io, without scheme or path`,
			`7: upstreams.b.io.aliases[0]: "x.y" is taken by upstreams.a.io.aliases[0] (config.yml:4)`,
			`8: upstreams.b.io.hosts[0]: "h.example" is taken by upstreams.a.io.hosts[0] (config.yml:5)`,
		}},
		{"credentials", `upstreams:
  a.io: {username: u}
  b.io: {password: p}
  c.io: {username: u, password: p, password_file: empty}
  d.io: {username: u, password_file: absent}
  e.io: {username: u, password_file: empty}
  f.io: {ca_file: absent}
  g.io: {ca_file: empty}
`, []string{
			"2: upstreams.a.io: has a username but no password; set password_file, or SOCIABLE_UPSTREAMS_A_IO_PASSWORD in the environment",
			"3: upstreams.b.io: has a password but no username",
			"4: upstreams.c.io.password_file: empty is empty",
			"4: upstreams.c.io: has both password and password_file; keep one",
			"5: upstreams.d.io.password_file: open absent: no such file or directory",
			"6: upstreams.e.io.password_file: empty is empty",
			"7: upstreams.f.io.ca_file: open absent: no such file or directory",
			"8: upstreams.g.io.ca_file: empty holds no PEM certificate",
		}},
		{"rules", "index:\n  rules:\n    - platforms: [linux/amd64, linux]\n      exclude: ['redis:7*', 'a.b/**:v*-x', 'a.b/x:y:z']\n      priority: 2000000\n", []string{
			`3: index.rules[0].platforms: "linux" is not a platform; write linux/amd64 or linux/arm/v7`,
			`4: index.rules[0].exclude: "a.b/x:y:z" is not a pattern; write docker.io/library/*, ghcr.io/**, redis:7* or **`,
			`5: index.rules[0].priority: want -1000000 to 1000000, got 2000000`,
		}},
		{"v2 at the tag", "index:\n  rules:\n    - v2_at: tag\n", []string{
			`3: index.rules[0].v2_at: at the tag itself clients get a digest that no signature of the image covers; add acknowledge_unsigned: true to the rule, or write suffix`,
		}},
		{"v2 at the tag, acknowledged", "index: {rules: [{v2_at: tag, acknowledge_unsigned: true, publish: v2}]}\n", nil},
		{"patterns", "index: {rules: [{repositories: [], exclude: [\"a/**b\", \"Q\", \"/x\"]}]}\n", []string{
			`1: index.rules[0].repositories: matches nothing; write ["**"] for all`,
			`1: index.rules[0].exclude: "a/**b" is not a pattern; write docker.io/library/*, ghcr.io/**, redis:7* or **`,
			`1: index.rules[0].exclude: "Q" is not a pattern; write docker.io/library/*, ghcr.io/**, redis:7* or **`,
			`1: index.rules[0].exclude: "/x" is not a pattern; write docker.io/library/*, ghcr.io/**, redis:7* or **`,
		}},
		{"exposure", "listen: :5000\nupstreams:\n  a.io: {username: u, password: p}\n  b.io: {username: u, password: p, access: open}\n  c.io: {}\n", []string{
			"3: upstreams.a.io: :5000 is reachable from other machines, and whoever reaches it could pull what this upstream's credentials can; " +
				`if that is wanted, add the line "access: open" to upstreams.a.io in config.yml; to have them log in, set auth.htpasswd_file; or listen on 127.0.0.1`,
		}},
		{"token server", "auth:\n  token_server: {realm: 'ftp://x', service: 'a\"b', keys_url: 'http://example.com/jwks'}\nupstreams:\n  a.io: {access: passthrough}\n", []string{
			`2: auth.token_server.service: must not hold a quotation mark, a backslash or a line break`,
			`2: auth.token_server: has no issuer: the token server's name in its tokens`,
			`2: auth.token_server.realm: want https://…`,
			`2: auth.token_server.keys_url: want https://…; http only for an address of this machine, such as 127.0.0.1`,
			`4: upstreams.a.io: access: passthrough has callers log in here with credentials for it, and auth.token_server sends them elsewhere; keep one`,
		}},
		{"token server, its keys", "auth: {token_server: {realm: 'https://x', service: s, issuer: i, keys_file: empty}}\n", []string{
			"1: auth.token_server.keys_file: empty: holds no key that tokens can be verified with: want a JSON Web Key Set, or PEM certificates or public keys",
		}},
		{"token server, as it should be", "listen: :5000\nauth: {token_server: {realm: 'https://x', service: s, issuer: i, keys_url: 'https://x/jwks'}}\nupstreams: {a.io: {username: u, password: p}}\n", nil},
		{"exposure allowed", "listen: :5000\naccess: open\nupstreams: {a.io: {username: u, password: p}}\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, text := range map[string]string{"config.yml": tt.file, "empty": ""} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := load(sources{File: "config.yml"})
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("a secret is in the error")
			}
			if diff := cmp.Diff(tt.want, mistakesOf(err)); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
		})
	}
}

func mistakesOf(err error) []string {
	if err == nil {
		return nil
	}
	var lines []string
	for _, l := range strings.Split(err.Error(), "\n") {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(l, "config.yml:"), " "))
	}
	return lines
}

func TestOverrideMistakes(t *testing.T) {
	_, _, err := load(sources{
		Environ: []string{
			"SOCIABLE_STORAGE_MAXBYTES=1GB", "SOCIABLE_LOG_LEVEL=loud", "SOCIABLE_UPSTREAMS_GHCR_IO_PASWORD=hunter2",
			"SOCIABLE_UPSTREAMS_GHCR_IO_ALIASES=a", "SOCIABLE_UPSTREAMS_A_B_TAG_TTL=1s",
		},
		Upstreams: []string{"a.b=https://a.b", "a-b=https://a.b", "nourl", "c.d=https://u:hunter2@c.d"},
		Flags:     []override{{"--listen", "listen", "nowhere"}},
	})
	want := []string{
		`--listen: listen: "nowhere" is not an address; write host:port, such as 127.0.0.1:5000`,
		"--upstream: want NAME=URL, such as mirror=http://127.0.0.1:5005",
		"--upstream: upstreams.c.d.url: must not hold a user or password; use username and password_file",
		`SOCIABLE_LOG_LEVEL: want "debug", "info", "warn" or "error", got "loud"`,
		"SOCIABLE_STORAGE_MAXBYTES: no such setting; did you mean SOCIABLE_STORAGE_MAX_BYTES?",
		"SOCIABLE_UPSTREAMS_A_B_TAG_TTL: could be upstreams.a-b.tag_ttl as well as upstreams.a.b.tag_ttl; set it in the file",
		"SOCIABLE_UPSTREAMS_GHCR_IO_ALIASES: upstreams.ghcr.io.aliases is a list; set it in the file",
		"SOCIABLE_UPSTREAMS_GHCR_IO_PASWORD: no such setting; did you mean SOCIABLE_UPSTREAMS_GHCR_IO_PASSWORD?",
	}
	if diff := cmp.Diff(want, mistakesOf(err)); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestWarnings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	text := `upstreams:
  docker.io: {}
  bitnami: {url: "https://registry.example"}
  ghcr.io: {aliases: [github, gh.example]}
  a.io: {url: "http://a.io", username: u, password: p, insecure_skip_verify: true}
  b.io: {url: "http://127.0.0.1:1", username: u, password: p}
  c.io: {insecure_skip_verify: true}
  d.io: {url: "http://127.0.0.1:1", mirrors: ["https://m.example"], insecure_skip_verify: true}
index: {rules: [{repositories: ["dokcer.io/**", "*/x", "ghcr.io/a/*"]}]}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, got, err := load(sources{File: file, Upstreams: []string{"lab=http://127.0.0.1:5005"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`3: upstreams.bitnami: hides Docker Hub's own "bitnami/…" from clients that use this as a mirror; a name with a dot would not`,
		`4: upstreams.ghcr.io.aliases[0]: hides Docker Hub's own "github/…" from clients that use this as a mirror; a name with a dot would not`,
		"5: upstreams.a.io: its password crosses the network readable, over http",
		"5: upstreams.a.io.insecure_skip_verify: has no effect over http",
		"7: upstreams.c.io: any machine on the way could pose as it, since its certificate is not checked",
		`9: index.rules[0].repositories: "dokcer.io/**" matches nothing, because no upstream is named "dokcer.io"; did you mean "docker.io"?`,
	}
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], file+":")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestHostingAlone: a registry that mirrors nothing needs no upstream; that all of
// them were left out by mistake is doubted where no namespace was named either.
func TestHostingAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	for text, want := range map[string]string{
		"upstreams: {}\nhosted: {lab: {}}\n": "",
		"upstreams: {}\n":                    file + ":1: upstreams: names none: there is what is pushed to local, and nothing else; without the key there are the well-known registries",
		"upstreams: {}\nhosted: {lab: {}}\nindex: {rules: [{repositories: [lob/**]}]}\n": file +
			`:3: index.rules[0].repositories: "lob/**" matches nothing, because no upstream is named "lob"; did you mean "lab"?`,
	} {
		putFile(t, file, text)
		c, got, err := load(sources{File: file})
		if err != nil || strings.Join(got, "\n") != want {
			t.Errorf("%q: %v, warnings %q, want %q", text, err, got, want)
		} else if c.DefaultUpstream != "" || len(c.Upstreams) != 0 || len(c.Hosted) != 1 {
			t.Errorf("%q: default %q, %d upstreams, %d namespaces", text, c.DefaultUpstream, len(c.Upstreams), len(c.Hosted))
		}
	}
}

// TestReadablePasswords: each listener beyond loopback at which people log in without
// TLS is named.
func TestReadablePasswords(t *testing.T) {
	dir := t.TempDir()
	users, file := filepath.Join(dir, "users"), filepath.Join(dir, "c.yml")
	putFile(t, users, htpasswdLine(t, "alice", "wonder"))
	newAuthority(t).server(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	tls := fmt.Sprintf("tls: {cert_file: %s/cert.pem, key_file: %s/key.pem}\n", dir, dir)
	for _, tt := range []struct {
		registry, admin, more string
		want                  []string
	}{
		{"127.0.0.1:5000", "127.0.0.1:5001", "", nil},
		{"127.0.0.1:5000", "0.0.0.0:5001", "", []string{"admin.listen: passwords", "in front of 0.0.0.0:5001"}},
		{"0.0.0.0:5000", "0.0.0.0:5001", "", []string{"admin.listen: passwords", "auth: passwords", "in front of 0.0.0.0:5000"}},
		{"0.0.0.0:5000", "0.0.0.0:5001", tls, []string{"admin.listen: passwords"}},
		{"0.0.0.0:5000", "", tls, nil},
	} {
		putFile(t, file, fmt.Sprintf("listen: %s\nadmin: {listen: %q}\nauth:\n  htpasswd_file: %s\n  rules: [{repositories: [\"**\"], pull: [anonymous], administer: [alice]}]\n%s", tt.registry, tt.admin, users, tt.more))
		_, got, err := load(sources{File: file})
		said := strings.Join(got, "\n")
		if err != nil || (len(tt.want) == 0) != !strings.Contains(said, "readable") {
			t.Errorf("%s, %s, %q: %v, %q", tt.registry, tt.admin, tt.more, err, got)
		}
		for _, w := range tt.want {
			if !strings.Contains(said, w) {
				t.Errorf("%s, %s, %q: warnings %q, want %q", tt.registry, tt.admin, tt.more, got, w)
			}
		}
	}
}

// FuzzDecode: no file makes the loader panic, and every one that is accepted
// means the same after it was shown.
func FuzzDecode(f *testing.F) {
	committed, err := os.ReadFile("../../config.yml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(committed)
	f.Add([]byte("upstreams: {a.b: &x {aliases: [c]}, d.e: *x}\nindex: {rules: [{}, {publish: none}]}\n"))
	f.Add([]byte("log: &l {level: info}\nadmin: {<<: *l}\n? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		bad := &findings{}
		c := Default()
		c.decode("fuzz", bytes.NewReader(text), bad)
		if bad.err() != nil {
			return
		}
		for _, u := range c.Upstreams {
			u.Password = "" // the one thing that is not shown
		}
		shown, err := c.show(false)
		if err != nil {
			t.Fatal(err)
		}
		again := Default()
		again.decode("shown", bytes.NewReader(shown), bad)
		if diff := cmp.Diff(c, again, sameValues); diff != "" || bad.err() != nil {
			t.Errorf("%v\n%s\n%s", bad.err(), diff, shown)
		}
	})
}
