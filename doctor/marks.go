package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"culprit/daemon"
	"culprit/internal/config"
	"culprit/rules"
	"culprit/sensor"
)

// A markUse is something that reads or writes bits of packets' marks.
type markUse struct {
	what string // and where
	bits uint32
}

// packetMarks lists who else uses marks, and whether they use the bit of the sensor's way "mark".
func packetMarks(ctx context.Context, c *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	uses, err := markUses(ctx, c.Firewall.Chain)
	if err != nil {
		return warn("cannot tell: "+err.Error(), "look yourself: iptables-save, nft list ruleset, ip rule, tc filter; only sensor: mark sets marks")
	}
	needed := c.Sensor == string(sensor.WayMark)
	if c.Sensor == config.SensorAuto {
		if s, err := sensor.Open(daemon.SensorConfig(ctx, c)); err == nil {
			needed = s.Way() == sensor.WayMark
			s.Close()
		}
	}
	return judgeMarks(c.Firewall.MarkBit, needed, uses)
}

// judgeMarks says who uses the bit. needed: the sensor sets it.
func judgeMarks(bit int, needed bool, uses []markUse) Check {
	var used uint32
	var clash, others []string
	for _, u := range uses {
		used |= u.bits
		if u.bits&(1<<bit) != 0 {
			clash = append(clash, u.what)
		} else {
			others = append(others, u.what)
		}
	}
	ours := fmt.Sprintf("bit %d (firewall.mark_bit)", bit)
	switch {
	case len(clash) > 0 && needed:
		return warn(ours+" is also used by "+some(clash), markRemedy(used))
	case len(clash) > 0:
		return ok("%s is also used by %s, which does not matter: only sensor: mark sets it", ours, some(clash))
	case len(others) > 0:
		return ok("%s is used by nobody else; others use other bits: %s", ours, some(others))
	}
	return ok("%s is used by nobody else, nor is any other", ours)
}

func markRemedy(used uint32) string {
	for bit := 31; bit >= 0; bit-- {
		if used&(1<<bit) == 0 {
			return fmt.Sprintf("set firewall.mark_bit to one that nobody uses, such as %d", bit)
		}
	}
	return "give these rules a mask (such as --mark 0x1/0xff), so that a bit is free; or set sensor to another way"
}

// some joins the first few of many.
func some(all []string) string {
	const few = 4
	if len(all) > few {
		return strings.Join(all[:few], "; ") + fmt.Sprintf("; and %d more", len(all)-few)
	}
	return strings.Join(all, "; ")
}

// markUses asks the firewall and the routing rules.
func markUses(ctx context.Context, chain string) (uses []markUse, err error) {
	for _, family := range []string{"ipv4", "ipv6"} {
		name := rules.ToolName(family)
		for _, save := range []string{name + "-save", name + "-legacy-save"} {
			path, err := rules.LookPath(save)
			if err != nil {
				continue
			}
			if tables, err := rules.LegacyTables(family); save != name+"-save" && (err != nil || len(tables) == 0) {
				continue // to list a table would create it
			}
			out, err := output(ctx, nil, path)
			if err != nil {
				return nil, fmt.Errorf("run %s: %w: %s", path, err, firstLine(out))
			}
			uses = append(uses, iptablesMarks(save, chain, out)...)
		}
	}
	if path, err := exec.LookPath("nft"); err == nil {
		if out, err := output(ctx, nil, path, "-n", "list", "ruleset"); err == nil {
			uses = append(uses, nftMarks(out)...)
		}
	}
	routes, err := routingMarks(ctx)
	uses = append(uses, routes...)
	slices.SortFunc(uses, func(a, b markUse) int { return strings.Compare(a.what, b.what) })
	return slices.CompactFunc(uses, func(a, b markUse) bool { return a.what == b.what }), err
}

// markOption matches the options of iptables that use the packet's mark, with their value and
// mask (man 8 iptables-extensions: mark, connmark, MARK, CONNMARK).
var markOption = regexp.MustCompile(`--(mark|set-xmark|set-mark|and-mark|or-mark|xor-mark|nfmask|tproxy-mark) (0x[0-9a-f]+|\d+)(?:/(0x[0-9a-f]+|\d+))?`)

// iptablesMarks finds them in the output of iptables-save. It leaves out our own chain.
func iptablesMarks(source, chain, saved string) (uses []markUse) {
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, "-A "+chain+" ") {
			continue
		}
		if strings.Contains(line, "-m connmark ") && !strings.Contains(line, "-m mark ") && !strings.Contains(line, "-j MARK") {
			continue // the mark of the connection is another
		}
		if bits := optionBits(line); bits != 0 {
			uses = append(uses, markUse{source + ": " + line, bits})
		}
	}
	return uses
}

func optionBits(line string) (bits uint32) {
	for _, m := range markOption.FindAllStringSubmatch(line, -1) {
		if strings.Contains(line, "-j CONNMARK") && strings.Contains(m[1], "set-") {
			continue // likewise
		}
		value, mask := number(m[2]), ^uint32(0)
		if m[3] != "" {
			mask = number(m[3])
		}
		switch m[1] {
		case "and-mark":
			bits |= ^value
		case "or-mark", "xor-mark", "nfmask":
			bits |= value
		case "set-xmark":
			bits |= value | mask
		default:
			bits |= mask
		}
	}
	return bits
}

func number(text string) uint32 {
	n, _ := strconv.ParseUint(text, 0, 32)
	return uint32(n)
}

// What a rule of nft does with the packet's mark (man 8 nft); nftMask if it names its bits.
var (
	setsNFTMark = regexp.MustCompile(`(?:^|\s)mark set `)
	nftMark     = regexp.MustCompile(`(?:^|\s)(?:meta )?mark (?:set|and|&|or|\||==|!=|0x)`)
	nftMask     = regexp.MustCompile(`mark (?:and|&) (0x[0-9a-f]+|\d+)|mark set (?:meta )?mark (?:or|\|) (0x[0-9a-f]+|\d+)`)
)

// nftMarks finds them in the output of nft list ruleset. iptables-save shows the tables that
// belong to iptables.
func nftMarks(listed string) (uses []markUse) {
	table, skip := "", false
	for line := range strings.Lines(listed) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[0] == "table" {
			table = f[1] + " " + f[2]
			skip = (f[1] == "ip" || f[1] == "ip6") && slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, f[2])
			continue
		}
		line = strings.TrimSpace(line)
		plain := strings.ReplaceAll(line, "ct mark", "ct-mark")
		if skip || !nftMark.MatchString(plain) {
			continue
		}
		bits := ^uint32(0)
		if m := nftMask.FindStringSubmatch(plain); m != nil {
			bits = number(m[1] + m[2])
			if setsNFTMark.MatchString(plain) && m[1] != "" { // keeps these, changes the others
				bits = ^bits
			}
		}
		uses = append(uses, markUse{"nft table " + table + ": " + line, bits})
	}
	return uses
}
