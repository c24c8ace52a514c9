// Package catalog is a look at all images for people: a table of them in memory
// that can be sorted, searched and paged, and follows the rows.
//
// Watch wraps the rows: it notes, beside a write, which images that write may
// have changed. Run reads all images once, without haste, and from then on those
// that changed; so a page costs no look at the rows, however many images there
// are, and nothing is asked of those who serve them.
package catalog
