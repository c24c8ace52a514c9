// Package bench measures sociable from outside, with a direct transfer over the
// same link beside it in the same run.
//
//	go test -run '^$' -bench . -benchtime 1x ./bench
//
// A benchmark prints a table, and fails where a limit is exceeded. With
// BENCH_DOC=docs/benchmarks.md in the environment (a path from the root of the
// repository) the table replaces that file's section of the same heading.
// BENCH_RUNS is the number of runs whose median counts (5).
package bench
