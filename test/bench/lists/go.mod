module culprit/test/bench/lists

go 1.26.0

require (
	culprit v0.0.0
	github.com/AdguardTeam/urlfilter v0.20.0
	github.com/blevesearch/vellum v1.1.0
)

require (
	github.com/AdguardTeam/golibs v0.29.0 // indirect
	github.com/FastFilter/xorfilter v0.5.1 // indirect
	github.com/bits-and-blooms/bitset v1.2.0 // indirect
	github.com/blevesearch/mmap-go v1.0.4 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/miekg/dns v1.1.73 // indirect
	golang.org/x/exp v0.0.0-20240909161429-701f63a606c0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace culprit => ../../..
