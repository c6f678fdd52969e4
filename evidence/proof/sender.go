package proof

import "bytes"

// A form is how the line of a call shows what it sends.
type form int

const (
	showsBytes   form = iota + 1 // sendto(3<UDP:[…]>, "…
	showsCork                    // setsockopt(3<UDP:[…]>, SOL_UDP, UDP_CORK, [1], 4), and what has TCP send
	showsSocket                  // sendfile(3<UDP:[…]>, …
	showsSocket3                 // splice(5<pipe:[17]>, NULL, 3<UDP:[…]>, …: its third argument
	showsNothing                 // io_uring_enter(…
)

// What the arguments of setsockopt hold that corks a UDP socket or ends that, and that has TCP send
// what waits.
const (
	corked   = ", SOL_UDP, UDP_CORK, ["
	uncorked = ", SOL_TCP, TCP_CORK, [0]"
	nodelay  = ", SOL_TCP, TCP_NODELAY, ["
)

// senders are the calls that may send to a network.
var senders = [...]struct {
	name string
	form form
}{
	{"send", showsBytes},
	{"sendto", showsBytes},
	{"sendmsg", showsBytes},
	{"sendmmsg", showsBytes},
	{"write", showsBytes},
	{"writev", showsBytes},
	{"pwritev2", showsBytes},
	{"setsockopt", showsCork},
	{"sendfile", showsSocket},
	{"sendfile64", showsSocket},
	{"splice", showsSocket3},
	{"io_uring_enter", showsNothing},
	{"io_submit", showsNothing},
}

// formOf returns the form of a call's line; ok says that it may send.
func formOf(call string) (name string, f form, ok bool) {
	for i := range senders {
		if call == senders[i].name {
			return senders[i].name, senders[i].form, true
		}
	}
	return "", 0, false
}

// sender returns the name of a call that may send to a network, and its arguments:
// "sendto(3<UDP:[…", "write(4<TCP:[…"; those of splice begin with the third. name is empty for other
// calls.
func sender(rest []byte) (name string, args []byte) {
	switch rest[0] {
	case 's', 'w':
	case 'p':
		if !bytes.HasPrefix(rest, []byte("pw")) {
			return "", nil
		}
	case 'i':
		if !bytes.HasPrefix(rest, []byte("io_")) {
			return "", nil
		}
	default:
		return "", nil
	}
	i := bytes.IndexByte(rest[:min(len(rest), len("io_uring_enter("))], '(')
	if i < 0 {
		return "", nil
	}
	name, form, ok := formOf(string(rest[:i]))
	if args = rest[i+1:]; !ok {
		return "", nil
	}
	switch form {
	case showsNothing:
		return name, args
	case showsSocket3:
		_, after, ok := bytes.Cut(args[:min(len(args), maxSocket)], []byte(", NULL, "))
		if !ok {
			return "", nil
		}
		args = args[min(len(args), maxSocket)-len(after):]
	case showsCork:
		begin := args[:min(len(args), maxSocket+len(nodelay))]
		if !bytes.Contains(begin, []byte(corked)) && !bytes.Contains(begin, []byte(uncorked)) && !bytes.Contains(begin, []byte(nodelay)) {
			return "", nil
		}
	}
	if !ofSocket(args) {
		return "", nil
	}
	return name, args
}

// ofSocket reports whether the arguments of a call begin with a socket of the internet, or with a
// descriptor of which strace could not say what it is.
func ofSocket(args []byte) bool {
	fd := 0
	for fd < len(args) && isDigit(args[fd]) {
		fd++
	}
	if fd == 0 || fd == len(args) {
		return false
	}
	if args[fd] != '<' {
		return true
	}
	what := args[fd+1:]
	for _, socket := range [...]string{"UDP:[", "TCP:[", "UDPv6:[", "TCPv6:[", "socket:[", "RAW:[", "RAWv6:["} {
		if len(what) >= len(socket) && string(what[:len(socket)]) == socket {
			return true
		}
	}
	return false // a file, a pipe, a UNIX socket, …
}
