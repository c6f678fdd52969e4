package sensor

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"culprit/test/harness"
)

// calls32 asks for x.badzone.test by calls of the 32-bit interface, whose numbers are others: it opens a file,
// sends a question, and takes the answer.
const calls32 = `
	.globl _start
_start:
	mov $5, %eax		# open
	mov $path, %ebx
	xor %ecx, %ecx
	xor %edx, %edx
	int $0x80
	mov $359, %eax		# socket
	mov $2, %ebx
	mov $2, %ecx
	xor %edx, %edx
	int $0x80
	mov %eax, %ebx
	mov $362, %eax		# connect
	mov $address, %ecx
	mov $16, %edx
	int $0x80
	mov $369, %eax		# sendto
	mov $query, %ecx
	mov $(end - query), %edx
	xor %esi, %esi
	xor %edi, %edi
	int $0x80
	mov $371, %eax		# recvfrom
	mov $buffer, %ecx
	mov $512, %edx
	int $0x80
	mov $1, %eax		# exit
	mov $7, %ebx
	int $0x80
	.data
path:	.asciz "/etc/hostname"
address: .byte 2, 0, 0, 53, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0
query:	.byte 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1
	.ascii "x"
	.byte 7
	.ascii "badzone"
	.byte 4
	.ascii "test"
	.byte 0, 0, 1, 0, 1
end:
	.bss
buffer:	.space 512
`

// Calls of the 32-bit interface, by a program of 32 bits and by one of 64, are named in the look-back and
// never taken for what their numbers are elsewhere. What their arguments point to is not in it; strace reads that.
func TestCalls32(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("this machine has no such calls")
	}
	h := harness.NewHost(t, "")
	source := h.Write("calls32.s", calls32)
	d := h.Hunt(harness.Gated + remembering)
	for name, flags := range map[string][2]string{"a program of 32 bits": {"--32", "elf_i386"}, "a program of 64 bits": {"--64", "elf_x86_64"}} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(h.Dir, "calls"+flags[0])
			for _, cmd := range [][]string{{"as", flags[0], "-o", program + ".o", source}, {"ld", "-m", flags[1], "-o", program, program + ".o"}} {
				if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", cmd, err, out)
				}
			}
			p := h.StartAs(harness.NewUID(), program)
			if got := p.Wait(); got != 7 {
				t.Skipf("the kernel runs no such program: it ended with %d", got)
			}
			back, text := "", ""
			harness.Eventually(t, "its traces have ended", func() error {
				back = ""
				for _, tr := range d.Traces() {
					if tr.Process.PID != p.PID {
						continue
					}
					if !harness.Ended(tr) {
						return errors.New("one has not")
					}
					if _, _, body := harness.ReadTrace(t, tr.File.Path); tr.Culprit.LookBack != nil {
						back, text = tr.Culprit.Hit.ID, body
					}
				}
				if back == "" {
					return errors.New("there is no look-back")
				}
				return nil
			})
			inOrder(t, "the look-back", text, "execve(", "open(0x", ", O_RDONLY /* 32-bit call */) = 3", "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP /* 32-bit call */) = 4",
				"connect(4, 0x", ", 16 /* 32-bit call */) = 0", "sendto(4, 0x", ", 32, 0, NULL, 0 /* 32-bit call */) = 32", "exit(7 /* 32-bit call */)", "exited with 7")
			hit := shown(t, d, back)
			if got := fmt.Sprint(hit.DNS.ResolvedIP); got != "[192.0.2.1]" {
				t.Errorf("strace's trace says that it was told %s, want 192.0.2.1", got)
			}
			if hit.Process == nil || hit.Process.PID != p.PID {
				t.Errorf("the hit is of %+v", hit.Process)
			}
		})
	}
	d.Stop()
}
