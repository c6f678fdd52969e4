//go:build !amd64

package lookback

func olderCalls() map[uint32]call { return nil }

// compatCalls are not told apart here.
func compatCalls() map[uint32]string { return nil }
