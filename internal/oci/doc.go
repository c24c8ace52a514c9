// Package oci holds the words that every other package speaks: repository
// names, digests, descriptors, media types, byte ranges, and errors with the
// codes of the OCI distribution specification. It knows HTTP only as far as
// writing an error and reading a Range header go, and it keeps no state.
package oci
