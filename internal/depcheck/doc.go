// Package depcheck holds the one rule of the house's layout as a test: packages
// import downwards only, and those on one floor do not know each other. A second
// test sees that the tests exist that e2e/README.md names.
package depcheck
