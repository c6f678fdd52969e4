// Package kernel finds where the running kernel keeps the members of its structs, by its own
// type information (BTF).
package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Types reads the BTF of the running kernel.
func Types() (*btf.Spec, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's BTF: %w: it needs CONFIG_DEBUG_INFO_BTF", err)
	}
	return spec, nil
}

// Offsets finds the offsets of members, in bytes, by their paths (see [Offset]). All of them must be
// there.
func Offsets(spec *btf.Spec, members map[*uint32][]string) (err error) {
	for to, path := range members {
		if *to, err = Offset(spec, path...); err != nil {
			return err
		}
	}
	return nil
}

// OptionalOffset is [Offset], or -1 where there is no such member.
func OptionalOffset(spec *btf.Spec, path ...string) int {
	off, err := Offset(spec, path...)
	if err != nil {
		return -1
	}
	return int(off)
}

// FirstOffset returns the offset of the first path that exists, in bytes.
func FirstOffset(spec *btf.Spec, paths ...[]string) (off uint32, err error) {
	var errs []error
	for _, path := range paths {
		if off, err = Offset(spec, path...); err == nil {
			return off, nil
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// Offset returns the offset of a member in bytes. It is named by its struct, the members that
// hold it, and itself.
func Offset(spec *btf.Spec, path ...string) (off uint32, err error) {
	var s *btf.Struct
	if err := spec.TypeByName(path[0], &s); err != nil {
		return 0, fmt.Errorf("find struct %s in the kernel's BTF: %w", path[0], err)
	}
	var t btf.Type = s
	for _, name := range path[1:] {
		m, at, found := member(t, name)
		if !found {
			return 0, fmt.Errorf("find %v in the kernel's BTF: there is no %s", path, name)
		}
		off += at
		t = m
	}
	return off, nil
}

// member finds a member by name, also in the anonymous structs and unions of a type.
func member(t btf.Type, name string) (found btf.Type, off uint32, ok bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m.Type, m.Offset.Bytes(), true
		}
		if m.Name == "" {
			if found, off, ok = member(m.Type, name); ok {
				return found, m.Offset.Bytes() + off, true
			}
		}
	}
	return nil, 0, false
}
