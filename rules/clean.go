package rules

import (
	"errors"
	"log/slog"
)

// Clean removes every chain of the given name that is ours, with the jumps to it: from all
// tables, both families and both flavours of iptables, as far as their commands are installed.
// It needs neither a configuration nor a daemon, and returns how many chains it removed. It
// leaves alone a chain of that name that belongs to somebody else, and reports it as an error
// once everything else is done.
func Clean(chain string, log *slog.Logger) (removed int, err error) {
	return clean(chain, log, LookPath)
}

func clean(chain string, log *slog.Logger, find finder) (removed int, err error) {
	var errs []error
	for _, family := range families {
		tools, err := allTools(family, find)
		if err != nil {
			if family == "ipv4" {
				return 0, err
			}
			log.Warn("cannot look at IPv6", "error", err)
			continue
		}
		for i, t := range tools {
			// An installed command of the other flavour, or an installed ip6tables, does not
			// mean that the kernel supports it. If the kernel does not, it cannot hold a chain
			// of ours.
			if err := probeReadOnly(ourChain{t, tables[0], chain}); unusable(err) && (i > 0 || family == "ipv6") {
				log.Warn("cannot look at part of the firewall", "family", family, "backend", t.backend, "error", err)
				continue
			}
			for _, table := range tables {
				gone, err := ourChain{t, table, chain}.remove()
				if gone {
					removed++
					log.Info("removed a chain", "family", family, "table", table, "chain", chain, "backend", t.backend)
				}
				errs = append(errs, err)
				if hopeless(err) {
					return removed, errors.Join(errs...)
				}
			}
		}
	}
	return removed, errors.Join(errs...)
}

// allTools finds the commands of a family, one for each flavour.
func allTools(family string, find finder) ([]tool, error) {
	name := ToolName(family)
	plain, err := openTool(family, name, find)
	if err != nil {
		return nil, err
	}
	tools := []tool{plain}
	for _, backend := range []string{BackendNFT, BackendLegacy} {
		if backend == plain.backend {
			continue
		}
		// Most machines have only one flavour; the name without a suffix is the one in use.
		if t, err := openTool(family, name+"-"+backend, find); err == nil && t.backend == backend {
			tools = append(tools, t)
		}
	}
	return tools, nil
}
