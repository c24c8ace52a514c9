// Package access decides who may do what at our door.
//
// Who asks is found out from the request: a user and password out of an htpasswd
// file, one of our own short-lived tokens, that of an external token server, a
// client certificate, or nobody. What that caller may do is a matter of rules:
// the first whose patterns match the repository decides alone, and what no rule
// matches has the default of its upstream.
//
// The tokens of our own service (/token, as the distribution project specifies
// it) name what they are for in the canonical spelling of a repository. They
// narrow what their holder may do; what it may do at all is asked of the rules
// again with every request, so that a change of them counts at once.
//
// Whether a repository has what is asked for is not decided here.
package access
