package proof

import (
	"bytes"
	"testing"
)

// BenchmarkScanner reads typical traces as the daemon does, 64 KiB at a time: what
// programs did to look up a name, and one that reads and writes files.
func BenchmarkScanner(b *testing.B) {
	lookup, _ := readSample(b, "curl")
	files := []byte(`12836 1795392018.626659 read(5</usr/share/php/cron.php>, "<?php` + string(bytes.Repeat([]byte(`abcdefghij\n`), 40)) + `", 4096) = 445 <0.000012>
12836 1795392018.626712 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0d8a1f2000 <0.000009>
12837 1795392018.626744 futex(0x7f0d8a1f2010, FUTEX_WAKE_PRIVATE, 1) = 1 <0.000011>
12836 1795392018.626801 write(1</var/log/cron.log>, "done\n", 5) = 5 <0.000014>
`)
	tcp := []byte(`12836 1795392018.626278 write(5<TCP:[127.0.0.1:40668->127.0.0.1:80]>, "` + string(bytes.Repeat([]byte(`\1\207abc`), 200)) + `", 1000) = 1000 <0.000020>` + "\n")
	for name, text := range map[string][]byte{"lookup": lookup, "files": files, "tcp": tcp} {
		b.Run(name, func(b *testing.B) {
			trace := bytes.Repeat(text, 8<<20/len(text))
			sends := 0
			b.SetBytes(int64(len(trace)))
			b.ReportAllocs()
			for b.Loop() {
				s := NewScanner(func(Send) { sends++ })
				for rest := trace; len(rest) > 0; {
					n := min(64<<10, len(rest))
					s.Write(rest[:n])
					rest = rest[n:]
				}
			}
			b.ReportMetric(float64(sends)/float64(b.N), "sends/op")
		})
	}
}
