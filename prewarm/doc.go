// Package prewarm follows images on a schedule, and when they are pushed here, so
// that no node is the first to ask for one: each time it looks, it has the tags checked with their upstreams,
// by HEAD, and what changed is pulled and, as every pull is, indexed.
//
// It keeps no rows. What is to be done follows from the configuration, and what
// was done from the store: after a restart it looks once and goes on. It waits
// while clients are busy, and one image that fails holds up no other.
package prewarm
