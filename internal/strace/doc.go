// Package strace speaks the language of strace(1). It finds the program, builds its arguments,
// reads its messages on standard error and parses its output. It also writes and reads the
// comment lines with which our trace files begin and end.
//
// It reads the output as strace -f -ttt -o writes it:
//
//	812   1700000000.123456 openat(AT_FDCWD, "/etc/hosts", O_RDONLY) = 3 <0.000012>
//	812   1700000000.123470 vfork( <unfinished ...>
//	813   1700000000.123480 --- SIGTERM {si_signo=SIGTERM, …} ---
//	812   1700000000.123490 <... vfork resumed>) = 813 <0.000020>
//	813   1700000000.123500 +++ killed by SIGTERM +++
//
// The traced program chooses the text in quotes and the length of a line. It cannot write a
// quote or a line end there, because strace escapes both. So it cannot forge a line, and a
// reader that skips strings with [CutQuoted] cannot be misled by them.
package strace
