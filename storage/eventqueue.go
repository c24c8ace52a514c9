package storage

import "strings"

// setAside is behind the name of an endpoint, which has no slash.
const setAside = "/set-aside"

// SetAside names the queue of what an endpoint refuses, and is not sent until
// somebody says so.
func SetAside(endpoint string) string { return endpoint + setAside }

// EndpointOf undoes SetAside, for names of both kinds of queue.
func EndpointOf(queue string) (endpoint string, aside bool) {
	return strings.CutSuffix(queue, setAside)
}
