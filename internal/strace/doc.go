// Package strace speaks the language of strace(1): it finds the program, makes its
// arguments, reads what it says on standard error and takes its output apart. It also
// writes and reads the comment lines with which our trace files begin and end.
//
// The output is read as strace -f -ttt -o writes it:
//
//	812   1700000000.123456 openat(AT_FDCWD, "/etc/hosts", O_RDONLY) = 3 <0.000012>
//	812   1700000000.123470 vfork( <unfinished ...>
//	813   1700000000.123480 --- SIGTERM {si_signo=SIGTERM, …} ---
//	812   1700000000.123490 <... vfork resumed>) = 813 <0.000020>
//	813   1700000000.123500 +++ killed by SIGTERM +++
//
// The traced program chooses what stands in quotes, and how long a line is. It cannot
// write a quote or a line end there: strace escapes both. So it cannot forge a line, and
// whoever skips strings by [CutQuoted] cannot be misled by what is in them.
package strace
