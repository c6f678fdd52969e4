package rules

import "testing"

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ out, number, backend string }{
		{"iptables v1.8.9 (nf_tables)", "1.8.9", BackendNFT},
		{"iptables v1.8.9 (legacy)", "1.8.9", BackendLegacy},
		{"ip6tables v1.8.11 (legacy)", "1.8.11", BackendLegacy},
		{"iptables v1.6.1", "1.6.1", BackendLegacy},
		{"iptables v1.8 (nf_tables): extra", "1.8", BackendNFT},
		{"BusyBox v1.35", "", ""},
		{"", "", ""},
	} {
		v, err := parseVersion(tt.out)
		if v.Number != tt.number || v.Backend != tt.backend || (err == nil) != (tt.number != "") {
			t.Errorf("%q: %+v %v", tt.out, v, err)
		}
	}
}
