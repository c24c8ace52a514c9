package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/ztoc"
)

func newZTOCInfoCommand() *cobra.Command {
	var flags placeFlags
	cmd := &cobra.Command{
		Use:   "info DIGEST|FILE",
		Short: "Show what is in a zTOC, as JSON",
		Long: `Show what is in a zTOC, as JSON with the fields of soci ztoc info. It is a file,
or one in the store or in an OCI layout, of whose digest the first characters
suffice.`,
		Example: `  sociable ztoc info layer.ztoc | jq '.files[].filename'
  sociable ztoc info sha256:9f3c1a
  sociable ztoc info --layout redis-soci sha256:9f3c1a`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := flags.place()
			if err != nil {
				return err
			}
			z, err := openZTOC(cmd.Context(), args[0], from)
			if err != nil {
				return err
			}
			defer func() { _ = z.Close() }() // it was only read
			return printZTOC(cmd.OutOrStdout(), z)
		},
	}
	flags.register(cmd)
	return cmd
}

// printZTOC prints the JSON that soci prints, spaces included.
func printZTOC(w io.Writer, z *openedZTOC) error {
	multi, err := z.MultiSpanFiles()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(out, "{\n  \"version\": %s,\n  \"build_tool\": %s,\n  \"size\": %d,\n  \"span_size\": %d,\n  \"num_spans\": %d,\n"+
		"  \"num_files\": %d,\n  \"num_multi_span_files\": %d,\n  \"files\": ",
		appendJSON(nil, z.Version), appendJSON(nil, z.BuildTool), z.size, z.SpanSize, z.NumSpans, z.NumEntries, multi)
	if z.NumEntries == 0 {
		_, _ = out.WriteString("null\n}\n") // Flush gives the error
		return out.Flush()
	}
	n := 0
	var p []byte
	for e, err := range z.Entries() {
		if err != nil {
			return err
		}
		open := ",\n    {"
		if n++; n == 1 {
			open = "[\n    {"
		}
		if p, err = appendFile(append(p[:0], open...), z, &e); err != nil {
			return err
		}
		if _, err := out.Write(p); err != nil {
			return err
		}
	}
	_, _ = out.WriteString("\n  ]\n}\n")
	return out.Flush()
}

// appendFile appends what there is to say of one file.
func appendFile(p []byte, z *openedZTOC, e *ztoc.Entry) ([]byte, error) {
	first, err := z.SpanOf(e.Offset)
	if err != nil {
		return nil, err
	}
	last, err := z.SpanOf(e.Offset + e.Size)
	if err != nil {
		return nil, err
	}
	p = appendJSON(append(p, "\n      \"filename\": "...), e.Name)
	p = strconv.AppendInt(append(p, ",\n      \"offset\": "...), e.Offset, 10)
	p = strconv.AppendInt(append(p, ",\n      \"size\": "...), e.Size, 10)
	p = appendJSON(append(p, ",\n      \"type\": "...), e.Type)
	p = strconv.AppendInt(append(p, ",\n      \"start_span\": "...), int64(first), 10)
	p = strconv.AppendInt(append(p, ",\n      \"end_span\": "...), int64(last), 10)
	return append(p, "\n    }"...), nil
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
