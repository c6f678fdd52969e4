package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

// What `culprit lists import --sigma` prints is a configuration that hunts what the rule of Sigma means.
func TestListsImportSigma(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	lists := t.TempDir()
	// As published rules are, with a title that would like to be more than a comment.
	domains := h.Write("net_dns_stealer.yml", `title: "Stealer\nrules: [{name: x, string: x}]\x1b[31m"
id: 5c1d3a1e-7a40-4d6c-9f4e-000000000001
status: experimental
references:
    - https://sigma.example/stealer
author: A. Nonymous
logsource:
    category: dns
detection:
    selection_apex:
        query:
            - stealer.test
    selection_below:
        query|endswith: .stealer.test
    filter_main_good:
        query: ok.stealer.test
    condition: 1 of selection_* and not 1 of filter_main_*
level: high
`)
	words := h.Write("dns query.yml", "title: Words\nlogsource: {category: dns_query}\ndetection:\n  s: {QueryName|contains: [beacon, .stage.123456.]}\n  o: {Image: x.exe}\n  condition: s or o\nlevel: low\n")
	image := h.Write("image.yml", "title: Image\nlogsource: {category: dns_query}\ndetection: {s: {Image: x.exe}, condition: s}\n")

	r := h.Culprit("lists", "import", "--dir", lists, "--sigma", domains, words)
	printed := r.Must(t)
	list := filepath.Join(lists, "sigma-net_dns_stealer.txt")
	says(t, printed, "rules:\n  # made by culprit lists import --sigma net_dns_stealer.yml\n", "  # id: 5c1d3a1e-7a40-4d6c-9f4e-000000000001, status: experimental, level: high\n",
		"  # author: A. Nonymous\n  # reference: https://sigma.example/stealer\n", `list: "`+list+`", format: adblock}`,
		`  - {name: "sigma-dns-query.1", string: "beacon"}`, `  - {name: "sigma-dns-query.2", hex: "|05|stage|06|123456"}`, "  # cannot be expressed: o: asks for Image;")
	says(t, r.Errors, domains+": 3 names in "+list+"\n", words+": note: s: QueryName|contains is found in lower case only: .stage.123456.\n", words+": cannot be expressed: o: asks for Image;")
	if text, err := os.ReadFile(list); err != nil || !strings.HasSuffix(string(text), "\n|stealer.test^\n||*.stealer.test^\n@@|ok.stealer.test^\n") || strings.Contains(string(text), "\x1b") {
		t.Errorf("the list is %q, %v", text, err)
	}

	d := h.Hunt(printed)
	s := h.Sender(harness.NewUID())
	for _, name := range []string{"ok.stealer.test", "stealer.test", "X.stealer.test", "a-beacon.test", "q.stage.123456.test"} {
		s.Ask(name)
	}
	for _, name := range []string{"stealer.test", "x.stealer.test", "a-beacon.test", "q.stage.123456.test"} {
		d.Hit(name)
	}
	if hits := d.Hits(); len(hits) != 4 {
		t.Errorf("%d hits, want 4", len(hits))
	}

	// It may be done again, but replaces nobody's list.
	h.Culprit("lists", "import", "--dir", lists, "--sigma", domains).Must(t)
	if err := os.WriteFile(list, []byte("mine.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.Culprit("lists", "import", "--dir", lists, "--sigma", domains).Fails(t, 1, "is there, and not by this command")
	h.Culprit("lists", "import", "--dir", lists, "--sigma", words, words).Fails(t, 1, "would have the same name")
	h.Culprit("lists", "import", "--dir", filepath.Join(lists, "none"), "--sigma", domains).Fails(t, 1, "make the directory")
	h.Culprit("lists", "import", "--sigma", image).Fails(t, 1, `nothing of "Image" is a rule of culprit`)
	h.Culprit("lists", "import", "--sigma", list).Fails(t, 1, "not a rule of Sigma")
	h.Culprit("lists", "import", "--sigma", filepath.Join(lists, "none")).Fails(t, 1, "no such file")
	h.Culprit("lists", "import", image).Fails(t, 2, "--sigma rule.yml")
}
