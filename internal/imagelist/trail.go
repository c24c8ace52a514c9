package imagelist

import "strconv"

// trail is the way to a node. It is written out only where it is told: a text can
// be made that names a long way a million times.
type trail struct {
	up  *trail
	key string
	i   int // in a sequence; -1: key

	idle bool // nothing runs what is below
	runs bool // it is in a workload
}

func (t *trail) to(key string) *trail {
	return &trail{up: t, key: key, i: -1, idle: t != nil && t.idle, runs: t != nil && t.runs}
}

func (t *trail) at(i int) *trail {
	return &trail{up: t, i: i, idle: t != nil && t.idle, runs: t != nil && t.runs}
}

// isContainer reports the way to a container of a pod.
func (t *trail) isContainer() bool {
	if t == nil || t.i < 0 || t.up == nil {
		return false
	}
	switch t.up.key {
	case "containers", "initContainers", "ephemeralContainers":
		return true
	}
	return false
}

const maxTrail = 300

// String is as in spec.containers[0], from the end where it is long.
func (t *trail) String() string {
	s := ""
	for ; t != nil && len(s) < maxTrail; t = t.up {
		switch {
		case t.i >= 0 && s != "" && s[0] != '[':
			s = "[" + strconv.Itoa(t.i) + "]." + s
		case t.i >= 0:
			s = "[" + strconv.Itoa(t.i) + "]" + s
		case s == "" || s[0] == '[':
			s = clip(t.key) + s
		default:
			s = clip(t.key) + "." + s
		}
	}
	if t != nil {
		s = "…" + s
	}
	return s
}
