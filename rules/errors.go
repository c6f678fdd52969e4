package rules

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// A hintedError is an error of a command or of the kernel, as one line that ends with the
// remedy.
type hintedError struct {
	text string
	err  error
}

func (e *hintedError) Error() string { return e.text }
func (e *hintedError) Unwrap() error { return e.err }

// explain adds the remedy to an error about a table, if the remedy is known. It does not change
// an error that already has one.
func explain(family, table string, err error) error {
	var done *hintedError
	if err == nil || errors.As(err, &done) {
		return err
	}
	text := err.Error()
	var failed *iptables.Error
	if errors.As(err, &failed) {
		// "append …: running [a b c]: exit status 4: several lines"
		text = strings.Replace(text, failed.Error(), complaint(failed), 1)
	}
	if hint := remedy(family, table, text, err); hint != "" {
		text += ": " + hint
	}
	return &hintedError{text, err}
}

// complaint returns what the command printed, as one line and without its advice to read the
// manual. It leaves the command line out: the text before it says what was being done.
func complaint(e *iptables.Error) string {
	_, printed, _ := strings.Cut(e.Error(), fmt.Sprintf(": exit status %d: ", e.ExitStatus()))
	var lines []string
	for line := range strings.Lines(printed) {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "Try `") ||
			strings.HasPrefix(line, "Perhaps iptables or your kernel") {
			continue
		}
		lines = append(lines, strings.TrimRight(line, "."))
	}
	if len(lines) == 0 {
		return fmt.Sprintf("exit status %d", e.ExitStatus())
	}
	return strings.Join(lines, "; ")
}

var (
	missingExtension = regexp.MustCompile(`Extension (\w+) revision \d+ not supported`)
	missingLibrary   = regexp.MustCompile("Couldn't load (?:match|target) `(\\w+)'")
)

// kernelParts are the kernel modules that our rules need, by the names that iptables uses.
var kernelParts = map[string]string{
	"string":  "xt_string (CONFIG_NETFILTER_XT_MATCH_STRING)",
	"NFLOG":   "xt_NFLOG (CONFIG_NETFILTER_XT_TARGET_NFLOG)",
	"comment": "xt_comment (CONFIG_NETFILTER_XT_MATCH_COMMENT)",
	"udp":     "xt_tcpudp (CONFIG_NETFILTER_XTABLES)",
	"tcp":     "xt_tcpudp (CONFIG_NETFILTER_XTABLES)",
}

// remedy says what to do about an error. It looks for the wording of iptables 1.8, in either
// flavour, and returns "" if it knows nothing better than the error itself.
func remedy(family, table, text string, err error) string {
	has := func(s string) bool { return strings.Contains(text, s) }
	tool := ToolName(family)
	switch {
	case has("Permission denied"), has("you must be root"), errors.Is(err, os.ErrPermission), errors.Is(err, unix.EPERM):
		return "run culprit as root (it needs CAP_NET_ADMIN)"
	case has("xtables lock"):
		return fmt.Sprintf("another program held the lock of iptables for more than %d s: try again", lockWait)
	case has("Address family not supported"):
		return "the kernel does not support " + family
	case has("can't initialize ip"):
		return fmt.Sprintf("the kernel has no table %s for %s: run \"modprobe %s\" (%s), or set firewall.table to another of raw, mangle, filter",
			table, tool, strings.TrimSuffix(tool, "s")+"_"+table, tableOption(family, table))
	case has("is incompatible, use 'nft' tool"):
		return fmt.Sprintf("table %s holds nft rules that iptables cannot read: set firewall.table to another of raw, mangle, filter", table)
	case missingLibrary.MatchString(text):
		return fmt.Sprintf("the extension %s of iptables is missing: reinstall the package iptables", missingLibrary.FindStringSubmatch(text)[1])
	case missingExtension.MatchString(text):
		name := missingExtension.FindStringSubmatch(text)[1]
		part := kernelParts[name]
		if part == "" {
			part = "xt_" + name
		}
		return fmt.Sprintf("the kernel lacks %s: run \"modprobe %s\", or use a kernel that has it", part, strings.Fields(part)[0])
	case has("Too many links"), has("CHAIN_DEL failed (Device or resource busy)"):
		return "rules of others jump to the chain: delete those first"
	case has("No chain/target/match by that name"), has("RULE_APPEND failed (No such file or directory)"), has("RULE_INSERT failed (No such file or directory)"):
		return fmt.Sprintf("the kernel lacks one of %s, %s, ts_bm and ts_kmp (CONFIG_TEXTSEARCH_BM, CONFIG_TEXTSEARCH_KMP): run \"modprobe -a xt_string xt_NFLOG ts_bm ts_kmp\", or use a kernel that has them",
			kernelParts["string"], kernelParts["NFLOG"])
	case has("rule set generation id"), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return "the kernel lacks nf_tables (CONFIG_NF_TABLES, CONFIG_NFT_COMPAT): run \"modprobe -a nf_tables nft_compat\", or make iptables-legacy the default (update-alternatives --config iptables)"
	}
	return ""
}

// tableOption names the kernel option for a table of iptables-legacy.
func tableOption(family, table string) string {
	part := map[string]string{"raw": "RAW", "mangle": "MANGLE", "filter": "FILTER"}[table]
	if family == "ipv6" {
		return "CONFIG_IP6_NF_" + part
	}
	return "CONFIG_IP_NF_" + part
}

// hopeless reports whether err means that we are not allowed to do anything, or cannot at
// present, so that every further attempt would fail in the same way.
func hopeless(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return errors.Is(err, os.ErrPermission) || strings.Contains(text, "xtables lock") ||
		strings.Contains(text, "Permission denied") || strings.Contains(text, "you must be root")
}

// unusable reports whether err, which comes from looking, means that the command or its part of
// the kernel does not work at all.
func unusable(err error) bool {
	return err != nil && !hopeless(err)
}
