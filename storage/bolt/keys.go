package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

// errKey refuses what can't be a key, and reports a key that is none of ours.
var errKey = errors.New("bad key")

// First byte of a digest in a key.
const (
	keySHA256 = 1
	keySHA512 = 2
)

// keyRoom fits most keys: appending to a nil slice of it allocates once.
const keyRoom = 128

// appendDigest appends d; see the package comment.
func appendDigest(key []byte, d digest.Digest) ([]byte, error) {
	algorithm, hexed, _ := strings.Cut(string(d), ":")
	var n int
	switch algorithm {
	case "sha256":
		key, n = append(key, keySHA256), 32
	case "sha512":
		key, n = append(key, keySHA512), 64
	}
	if n == 0 || len(hexed) != 2*n {
		return nil, fmt.Errorf("%w: unsupported digest %.100q", errKey, string(d))
	}
	for i := 0; i < len(hexed); i += 2 {
		hi, lo := nibble(hexed[i]), nibble(hexed[i+1])
		if hi|lo > 15 {
			return nil, fmt.Errorf("%w: digest %q is not in lower-case hex", errKey, string(d))
		}
		key = append(key, hi<<4|lo)
	}
	return key, nil
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// cutDigest reads the digest that key begins with.
func cutDigest(key []byte) (d digest.Digest, rest []byte, err error) {
	algorithm, n := digest.SHA256, 32
	switch {
	case len(key) > 0 && key[0] == keySHA256:
	case len(key) > 0 && key[0] == keySHA512:
		algorithm, n = digest.SHA512, 64
	default:
		n = len(key) // fails below
	}
	if len(key) < 1+n {
		return "", nil, fmt.Errorf("%w: no digest in %x", errKey, key)
	}
	buf := make([]byte, 0, len("sha256:")+2*64)
	buf = append(append(buf, algorithm...), ':')
	return digest.Digest(hex.AppendEncode(buf, key[1:1+n])), key[1+n:], nil
}

// wholeDigest reads a key that is a digest.
func wholeDigest(key []byte) (digest.Digest, error) {
	d, rest, err := cutDigest(key)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: more than a digest in %x", errKey, key)
	}
	return d, err
}

func digestKey(d digest.Digest) ([]byte, error) {
	return appendDigest(make([]byte, 0, keyRoom), d)
}

// pairKey is two digests in a row.
func pairKey(a, b digest.Digest) ([]byte, error) {
	key, err := digestKey(a)
	if err != nil {
		return nil, err
	}
	return appendDigest(key, b)
}

// referrerKey ends with the subject's and the referrer's digests for what was
// made here, and else with the repository that it was pushed to.
func referrerKey(repo oci.Repo, subject, d digest.Digest) ([]byte, error) {
	key, err := pairKey(subject, d)
	if err != nil || repo == (oci.Repo{}) {
		return key, err
	}
	return appendRepo(key, repo)
}

// pastPrefix changes a prefix to the first key after all that begin with it. It
// ends with a digest, which does not consist of the highest bytes.
func pastPrefix(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i]++; prefix[i] != 0 {
			return prefix[:i+1]
		}
	}
	return prefix
}

// tagOfKey is the digest that a tag leads to, and the tag.
func tagOfKey(row storage.TagRow) ([]byte, error) {
	key, err := rightKey(row.Repo, row.Digest)
	if err != nil {
		return nil, err
	}
	return appendName(append(key, 0), row.Tag)
}

// layerKey is a layer at one span size.
func layerKey(d digest.Digest, spanSize int64) ([]byte, error) {
	if spanSize < 0 {
		return nil, fmt.Errorf("%w: span size %d", errKey, spanSize)
	}
	key, err := digestKey(d)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(key, uint64(spanSize)), nil
}

// appendName appends one name. Only the last of a key may go without its end.
func appendName(key []byte, name string) ([]byte, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, fmt.Errorf("%w: name %.100q", errKey, name)
	}
	return append(key, name...), nil
}

func appendRepo(key []byte, repo oci.Repo) ([]byte, error) {
	key, err := appendName(key, repo.Upstream)
	if err != nil {
		return nil, err
	}
	return appendName(append(key, 0), repo.Name)
}

// cutRepo reads what appendRepo wrote, at the end of a key.
func cutRepo(key []byte) (oci.Repo, error) {
	upstream, name, ok := bytes.Cut(key, []byte{0})
	if !ok || bytes.IndexByte(name, 0) >= 0 {
		return oci.Repo{}, fmt.Errorf("%w: no repository in %x", errKey, key)
	}
	return oci.Repo{Upstream: string(upstream), Name: string(name)}, nil
}

// rightKey is a digest and a repository.
func rightKey(repo oci.Repo, d digest.Digest) ([]byte, error) {
	key, err := digestKey(d)
	if err != nil {
		return nil, err
	}
	return appendRepo(key, repo)
}

// tagsPrefix begins the keys of all tags of repo.
func tagsPrefix(repo oci.Repo) ([]byte, error) {
	key, err := appendRepo(make([]byte, 0, keyRoom), repo)
	if err != nil {
		return nil, err
	}
	return append(key, 0), nil
}

func tagKey(repo oci.Repo, tag string) ([]byte, error) {
	key, err := tagsPrefix(repo)
	if err != nil {
		return nil, err
	}
	return appendName(key, tag)
}

// cutTagRepo reads the repository of a tag's key.
func cutTagRepo(key []byte) (oci.Repo, error) {
	i := bytes.LastIndexByte(key, 0)
	if i < 0 {
		return oci.Repo{}, fmt.Errorf("%w: no repository in %x", errKey, key)
	}
	return cutRepo(key[:i])
}

// timeLen is the length of what timeKey gives.
const timeLen = 12

// timeKey is t as the beginning of a key: keys sort by it, whatever its year.
func timeKey(t time.Time) []byte {
	key := binary.BigEndian.AppendUint64(make([]byte, 0, keyRoom), uint64(t.Unix())^1<<63)
	return binary.BigEndian.AppendUint32(key, uint32(t.Nanosecond()))
}
