package trouble

import "log/slog"

// sentence says in words what a line of the log tells by its fields. Most messages
// are words already.
func sentence(r slog.Record) string {
	field := func(key string) (s string) {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == key {
				s = a.Value.Resolve().String()
			}
			return s == ""
		})
		return s
	}
	switch r.Message {
	case "request":
		if status := field("status"); status[:min(1, len(status))] != "2" {
			return "a request was answered with an error, " + status
		}
		return "an answer was broken off before its end"
	case "access":
		return "somebody was refused what they may not do: " + field("action")
	case "login":
		return "a login was refused"
	case "task failed":
		if s := tasks[field("kind")]; s != "" {
			return s
		}
	case "check found a problem":
		return "the store was checked and has a fault"
	}
	return r.Message
}

// tasks are what the kinds of tasks do, when they fail.
var tasks = map[string]string{
	"convert": "an image was not converted (SOCI v2)",
	"push":    "an index was not pushed to its upstream",
	"image":   "an image was not fetched to be indexed",
	"catalog": "the repositories of an upstream were not gone through",
}
