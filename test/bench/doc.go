// Package bench holds the benchmarks behind docs/performance.md. They drive the
// real thing: packets through the kernel's firewall in namespaces of their own,
// the culprit binary, real straces. Run them with make bench, as root and on a
// quiet machine.
//
// A slow machine makes the figures worse, never a benchmark fail. What fails one
// is culprit doing something wrong, such as hits that vanish without being counted.
package bench
