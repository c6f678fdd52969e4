//go:build !amd64

package sensor

// compatCalls are not told apart here.
func compatCalls() map[uint32]string { return nil }

func compatUIDCalls() []int32 { return nil }

func otherForkCalls() []int32 { return nil }
