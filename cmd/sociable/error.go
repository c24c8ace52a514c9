package main

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/sociable/sociable/ztoc"
)

// Failure is what a command prints on standard error when it fails and was asked
// for JSON: one line, {"error": Failure}. Standard output has the command's result
// as far as there is one, and nothing of the error.
type Failure struct {
	Message string     `json:"message"`
	Class   ztoc.Class `json:"class,omitempty"`  // of a layer that has no zTOC: the kind of fault
	Offset  *int64     `json:"offset,omitempty"` // and where it was met; see ztoc.Error
}

// asksJSON reports whether a command was run with --json.
func asksJSON(cmd *cobra.Command) bool {
	if cmd == nil {
		return false
	}
	f := cmd.Flags().Lookup("json")
	return f != nil && f.Value.String() == "true"
}

func printError(w io.Writer, err error) {
	f := Failure{Message: err.Error()}
	var refused *ztoc.Error
	if errors.As(err, &refused) {
		f.Class, f.Offset = refused.Class, &refused.Offset
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(map[string]Failure{"error": f}) // there is nobody else to tell
}
