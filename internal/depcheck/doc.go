// Package depcheck holds the one rule of the house's layout as a test: packages
// import downwards only, and those on one floor do not know each other.
package depcheck
