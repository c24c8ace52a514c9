// Package web is the second door, for those who run the proxy: metrics and
// health on the admin listener, and the API of the command line on a socket in
// the data folder, which only the owner of that folder can reach.
package web
