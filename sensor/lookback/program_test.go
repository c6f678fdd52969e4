package lookback

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"culprit/internal/testkit"
)

// record records without the help of what newer kernels have, unless newer.
func record(t testing.TB, c Config, newer bool) *Recorder {
	t.Helper()
	testkit.Root(t)
	l, err := readLayout()
	if err != nil {
		t.Fatal(err)
	}
	if !newer {
		l.casts = casts{}
	}
	r, err := open(c, l)
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		t.Fatalf("%+.40v", v)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// The kernel takes the programs, whatever the configuration.
func TestLoad(t *testing.T) {
	for _, c := range []Config{
		{All: true, Strings: 256, Memory: 32 << 20},
		{Users: []uint32{1000}, Strings: 32, Memory: 4 << 20},
		{Users: []uint32{1, 5, 3, 1 << 31, 4294967294, 7, 8, 9, 10, 11}, Strings: 2048, Memory: 32 << 20},
	} {
		for _, newer := range []bool{true, false} {
			record(t, c, newer).Close()
		}
	}
}
