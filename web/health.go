package web

import (
	"fmt"
	"io"
	"time"
)

// Health is how something outside this process does that readiness does not
// depend on.
type Health struct {
	Name  string        // one line, such as "upstream docker.io https://registry-1.docker.io"
	State string        // ok, or a word for what it is instead
	Left  time.Duration // until that may change; 0: not known
	Why   string        // "": ok, or not known
}

// sayHealth writes a line for each.
func sayHealth(w io.Writer, list []Health) {
	for _, h := range list {
		line := h.Name + ": " + h.State
		if h.Left > 0 {
			line += fmt.Sprintf(", for another %v", h.Left.Round(time.Second))
		}
		if h.Why != "" {
			line += ": " + h.Why
		}
		fmt.Fprintln(w, line) // a client that left is nobody's loss
	}
}
