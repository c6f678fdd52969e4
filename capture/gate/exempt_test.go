package gate

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// staticELF is a program that has no loader, according to its header.
func staticELF(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Ehsize: 64, Phentsize: 56, Shentsize: 64,
	}
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// resolve follows the symbolic links of a path.
func resolve(t *testing.T, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// dynamic returns a dynamically linked program and its loader.
func dynamic(t *testing.T) (program, loader string) {
	t.Helper()
	program = resolve(t, "/bin/true")
	e, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := e.Section(".interp")
	if s == nil {
		t.Skipf("%s is linked statically", program)
	}
	name, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return program, resolve(t, string(bytes.TrimRight(name, "\x00")))
}

func TestExempt(t *testing.T) {
	t.Parallel()
	dir := resolve(t, t.TempDir())
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program, loader := dynamic(t)
	static := write("static", string(staticELF(t)))
	link := filepath.Join(dir, "link")
	if err := os.Symlink("static", link); err != nil {
		t.Fatal(err)
	}
	script := write("script", "#!"+program+"\necho\n")
	for name, c := range map[string]struct {
		path string
		want []string
	}{
		"dynamic":                       {"/bin/true", []string{program, loader}},
		"static":                        {static, []string{static}},
		"link":                          {link, []string{static}},
		"script":                        {script, []string{script, program, loader}},
		"script of a script":            {write("outer", "#! "+script+" -x\n"), []string{filepath.Join(dir, "outer"), script, program, loader}},
		"script of a link":              {write("linked", "#!\t"+link+"\tx y\n"), []string{filepath.Join(dir, "linked"), static}},
		"script of one line, unended":   {write("unended", "#!"+static), []string{filepath.Join(dir, "unended"), static}},
		"script that names nothing":     {write("nothing", "#!  \n"), []string{filepath.Join(dir, "nothing")}},
		"script with a long first line": {write("long", "#!"+static+" "+string(bytes.Repeat([]byte("x"), 300))+"\n"), []string{filepath.Join(dir, "long"), static}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Exempt(c.path); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
	for name, path := range map[string]string{
		"missing":                 filepath.Join(dir, "missing"),
		"neither ELF nor script":  write("text", "echo\n"),
		"empty":                   write("empty", ""),
		"script of what is not":   write("orphan", "#!"+filepath.Join(dir, "missing")+"\n"),
		"ELF that is cut":         write("cut", string(staticELF(t)[:40])),
		"a directory":             dir,
		"script of a broken link": write("orphan2", "#!/proc/self/cwd/no/such\n"),
	} {
		if got, err := Exempt(path); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
}

// A chain of scripts as interpreters ends, as it does in the kernel.
func TestExemptEnds(t *testing.T) {
	t.Parallel()
	dir := resolve(t, t.TempDir())
	for i := range 10 {
		next := filepath.Join(dir, fmt.Sprint((i+1)%10))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("#!"+next+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Exempt(filepath.Join(dir, "0")); err != nil || len(got) != 5 {
		t.Errorf("got %q, %v, want the five that the kernel would follow", got, err)
	}
}
