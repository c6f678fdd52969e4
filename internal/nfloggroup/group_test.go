package nfloggroup

import "testing"

func TestParsePort(t *testing.T) {
	t.Parallel()
	const text = "  100    812     0 2 65535    100  1\n 5353 4294963200  3 2  2048      0  1\n"
	for group, want := range map[int]uint32{100: 812, 5353: 4294963200, 7: 0} {
		port, found, err := parsePort(text, group)
		if err != nil || found != (want != 0) || port != want {
			t.Errorf("group %d is read by %d (%v, %v), want %d", group, port, found, err, want)
		}
	}
	for _, bad := range []string{"1\n", "x 1 0\n", "1 y 0\n", "70000 1 0\n"} {
		if port, found, err := parsePort(bad, 1); err == nil {
			t.Errorf("%q: %d, %v", bad, port, found)
		}
	}
}

func TestParseInode(t *testing.T) {
	t.Parallel()
	const text = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000b8016b3f 0   812        00000000 0        0        0     2        0        4       
000000002a28e316 12  0          00000000 0        0        0     2        0        478     
000000002a28e317 12  812        00000000 0        0        0     2        0        9478     
`
	if inode, found := parseInode(text, 812); !found || inode != 9478 {
		t.Error(inode, found)
	}
	if inode, found := parseInode(text, 813); found {
		t.Error(inode)
	}
}
