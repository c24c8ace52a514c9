package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
)

func newZTOCInfoCommand() *cobra.Command {
	var flags storeFlags
	cmd := &cobra.Command{
		Use:   "info DIGEST|FILE",
		Short: "Show what is in a zTOC, as JSON",
		Long: `Show what is in a zTOC, as JSON with the fields of soci ztoc info. It is a file,
or one in the store, of whose digest the first characters suffice.`,
		Example: `  sociable ztoc info layer.ztoc | jq '.files[].filename'
  sociable ztoc info sha256:9f3c1a`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			z, err := openZTOC(cmd.Context(), args[0], flags.dataDir)
			if err != nil {
				return err
			}
			defer z.Close()
			return printZTOC(cmd.OutOrStdout(), z)
		},
	}
	flags.register(cmd)
	return cmd
}

// printZTOC prints the JSON that soci prints, spaces included. Files go first to
// memory, because their number of spans stands in front of them.
func printZTOC(w io.Writer, z *openedZTOC) error {
	var files bytes.Buffer
	multi, n := 0, 0
	for e, err := range z.Entries() {
		if err != nil {
			return err
		}
		first, err := z.SpanOf(e.Offset)
		if err != nil {
			return err
		}
		last, err := z.SpanOf(e.Offset + e.Size)
		if err != nil {
			return err
		}
		if first != last {
			multi++
		}
		if n++; n > 1 {
			files.WriteByte(',')
		}
		files.WriteString("\n    {\n      \"filename\": ")
		files.Write(appendJSON(files.AvailableBuffer(), e.Name))
		writeField(&files, ",\n      \"offset\": ", e.Offset)
		writeField(&files, ",\n      \"size\": ", e.Size)
		files.WriteString(",\n      \"type\": ")
		files.Write(appendJSON(files.AvailableBuffer(), e.Type))
		writeField(&files, ",\n      \"start_span\": ", int64(first))
		writeField(&files, ",\n      \"end_span\": ", int64(last))
		files.WriteString("\n    }")
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "{\n  \"version\": %s,\n  \"build_tool\": %s,\n  \"size\": %d,\n  \"span_size\": %d,\n  \"num_spans\": %d,\n"+
		"  \"num_files\": %d,\n  \"num_multi_span_files\": %d,\n  \"files\": ",
		appendJSON(nil, z.Version), appendJSON(nil, z.BuildTool), z.size, z.SpanSize, z.NumSpans, n, multi)
	if n == 0 {
		out.WriteString("null\n}\n")
		return out.Flush()
	}
	out.WriteByte('[')
	out.Write(files.Bytes())
	out.WriteString("\n  ]\n}\n")
	return out.Flush()
}

func writeField(b *bytes.Buffer, name string, v int64) {
	b.WriteString(name)
	b.Write(strconv.AppendInt(b.AvailableBuffer(), v, 10))
}

// appendJSON appends s as encoding/json writes it.
func appendJSON(p []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings have no way to fail
			}
			return append(p, quoted...)
		}
	}
	p = append(p, '"')
	p = append(p, s...)
	return append(p, '"')
}
