package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	official "github.com/awslabs/soci-snapshotter/ztoc"
	"github.com/awslabs/soci-snapshotter/ztoc/compression"

	"github.com/sociable/sociable/ztoc"
)

var update = flag.Bool("update", false, "write what the official library gives")

// fileInfo and zTOCInfo are what `soci ztoc info` prints.
type fileInfo struct {
	Filename  string             `json:"filename"`
	Offset    compression.Offset `json:"offset"`
	Size      compression.Offset `json:"size"`
	Type      string             `json:"type"`
	StartSpan compression.SpanID `json:"start_span"`
	EndSpan   compression.SpanID `json:"end_span"`
}

type zTOCInfo struct {
	Version           string             `json:"version"`
	BuildTool         string             `json:"build_tool"`
	Size              int64              `json:"size"`
	SpanSize          compression.Offset `json:"span_size"`
	NumSpans          compression.SpanID `json:"num_spans"`
	NumFiles          int                `json:"num_files"`
	NumMultiSpanFiles int                `json:"num_multi_span_files"`
	Files             []fileInfo         `json:"files"`
}

// TestInfo: the files that the command's `ztoc info` is compared with are what
// the official library finds in the zTOC that it makes itself. -update writes
// them.
func TestInfo(t *testing.T) {
	time.Local = time.UTC // the official builder writes times in the machine's zone
	const dir = "../../ztoc/testdata/"
	names, err := filepath.Glob(dir + "info/*.json")
	if err != nil || len(names) < 5 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, path := range names {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			ext := filepath.Ext(name)
			layer := dir + "inputs/" + strings.TrimSuffix(name, ext)
			span, err := strconv.ParseInt(ext[1:], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			algorithm := compression.Gzip
			if strings.HasSuffix(layer, ".tar") {
				algorithm = compression.Uncompressed
			}
			z, err := official.NewBuilder(ztoc.BuildTool).BuildZtoc(layer, span, official.WithCompression(algorithm))
			if err != nil {
				t.Fatal(err)
			}
			_, desc, err := official.Marshal(z)
			if err != nil {
				t.Fatal(err)
			}
			want := infoOf(t, z, desc.Size)
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // the name is one of the files
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the official library finds: %v", path, err)
			}
		})
	}
}

// infoOf is the text that `soci ztoc info` prints.
func infoOf(t *testing.T, z *official.Ztoc, size int64) []byte {
	t.Helper()
	zinfo, err := z.Zinfo()
	if err != nil {
		t.Fatal(err)
	}
	defer zinfo.Close()
	info := zTOCInfo{
		Version: string(z.Version), BuildTool: z.BuildToolIdentifier, Size: size,
		SpanSize: zinfo.SpanSize(), NumSpans: z.MaxSpanID + 1, NumFiles: len(z.FileMetadata),
	}
	for _, m := range z.FileMetadata {
		f := fileInfo{
			m.Name, m.UncompressedOffset, m.UncompressedSize, m.Type,
			zinfo.UncompressedOffsetToSpanID(m.UncompressedOffset), zinfo.UncompressedOffsetToSpanID(m.UncompressedOffset + m.UncompressedSize),
		}
		if f.StartSpan != f.EndSpan {
			info.NumMultiSpanFiles++
		}
		info.Files = append(info.Files, f)
	}
	p, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(p, '\n')
}
