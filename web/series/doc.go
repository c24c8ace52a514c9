// Package series keeps what is measured over an hour, a day and a week, for
// charts that need no other program. It takes no memory or disk beyond some
// ten kilobytes, and outlives a restart.
package series
