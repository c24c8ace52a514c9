// Package door tests who comes in and how: real clients that log in, with
// passwords, with tokens of a token server, through containerd's hosts.toml;
// real upstreams that want a certificate, a token and an authority of their own;
// and certificates that an ACME authority makes.
package door
