package sensor

import (
	"testing"

	"github.com/cilium/ebpf"
)

func TestLoad(t *testing.T) {
	l, err := readLayout()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *l)
	m, err := newMaps(8)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for _, s := range []*ebpf.ProgramSpec{nflogProgram(l, m, true, 1, false), nflogProgram(l, m, true, 1, true), ruleProgram(l, m, true), ruleProgram(l, m, false), markProgram(l, m, true, 1<<30, 1), execProgram(l, m), exitProgram(l, m)} {
		p, err := ebpf.NewProgramWithOptions(s, ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats})
		if err != nil {
			t.Errorf("%s: %+v", s.Name, err)
			continue
		}
		p.Close()
	}
}
