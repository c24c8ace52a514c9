package indexer

import "testing"

func TestPlatforms(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "Linux/AMD64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/amd64/v1": "linux/amd64",
		"linux/amd64/v3": "linux/amd64/v3", "linux/arm64/v8": "linux/arm64", "linux/aarch64": "linux/arm64", "linux/arm64/v9": "linux/arm64/v9",
		"linux/arm": "linux/arm/v7", "linux/arm/7": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/armhf": "linux/arm/v7",
		"linux/armel": "linux/arm/v6", "linux/i386": "linux/386", "macos/arm64": "darwin/arm64", "windows/amd64": "windows/amd64",
	} {
		got, err := ParsePlatform(in)
		if got != want || err != nil {
			t.Errorf("%s is %q, %v, want %q", in, got, err, want)
		}
		if again, err := ParsePlatform(got); again != got || err != nil {
			t.Errorf("%s read again is %s, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/arm/v7/x", "linux//v7", "unknown/unknown"} {
		if got, err := ParsePlatform(in); err == nil {
			t.Errorf("%q was taken for %q", in, got)
		}
	}
}
