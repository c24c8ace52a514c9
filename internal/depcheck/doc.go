// Package depcheck holds the one rule of the house's layout as a test: packages
// import downwards only, and those on one floor do not know each other. Others see
// that the tests exist that e2e/README.md names, and that every direct dependency
// has its reason in ARCHITECTURE.md.
package depcheck
