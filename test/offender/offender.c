//go:build ignore

/*
 * offender sends a DNS query, the way malware in a hurry does: it is what the
 * black-box tests hunt. Same options as main.go beside it, which describes them,
 * and -y WAY: how to send, by send (the default), more (two sends of one packet),
 * sendfile, splice, or io_uring.
 * No resolver of libc, linked statically: it lives for a millisecond or two.
 * (The first line keeps the Go tool from compiling this file into main.go.)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *name = "x.badzone.test", *server = "127.0.0.1", *way = "send";
static int port = 53, count = 1, before, interval, after;
static int tcp, shut, wait_answer, report, become;

static void fail(const char *what)
{
	dprintf(2, "offender: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void usage(void)
{
	dprintf(2, "usage: offender [-n NAME] [-s IP] [-p PORT] [-c COUNT] [-b MS] [-i MS] [-a MS]"
		   " [-t] [-x] [-w] [-r] [-y WAY] [-e PROGRAM [ARGUMENT...]]\n");
	exit(2);
}

static int number(const char *s, int max)
{
	char *end;
	long n = strtol(s, &end, 10);
	if (*s == '\0' || *end != '\0' || n < 0 || n > max)
		usage();
	return n;
}

static void pause_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	while (ms > 0 && nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* query builds a question for the A record of name (RFC 1035, section 4). */
static size_t query(unsigned char *msg, uint16_t id)
{
	static const unsigned char rest[] = {1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	static const unsigned char end[] = {0, 0, 1, 0, 1};
	size_t n = 0;

	msg[n++] = id >> 8;
	msg[n++] = id & 0xff;
	memcpy(msg + n, rest, sizeof rest);
	n += sizeof rest;
	for (const char *label = name; *label != '\0';) {
		size_t len = strcspn(label, ".");
		errno = EINVAL;
		if (len == 0 || len > 63 || n + len + 1 > 12 + 254)
			fail(name);
		msg[n++] = len;
		memcpy(msg + n, label, len);
		n += len;
		label += len + (label[len] == '.');
	}
	memcpy(msg + n, end, sizeof end);
	return n + sizeof end;
}

/* by_io_uring sends with one io_uring_enter, which waits until it is done. */
static ssize_t by_io_uring(int fd, const void *msg, size_t n)
{
	struct io_uring_params p = {0};
	int ring = syscall(SYS_io_uring_setup, 1, &p);
	if (ring < 0)
		return -1;
	size_t size = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	if (size < p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe))
		size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	char *q = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	struct io_uring_sqe *entry = mmap(NULL, sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (q == MAP_FAILED || entry == MAP_FAILED)
		return -1;
	memset(entry, 0, sizeof *entry);
	entry->opcode = IORING_OP_SEND;
	entry->fd = fd;
	entry->addr = (uintptr_t)msg;
	entry->len = n;
	*(unsigned *)(q + p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(q + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -1;
	int result = ((struct io_uring_cqe *)(q + p.cq_off.cqes))->res;
	close(ring);
	errno = -result;
	return result < 0 ? -1 : result;
}

/* transmit sends a message in the way that -y says. */
static ssize_t transmit(int fd, const void *msg, size_t n)
{
	const char *m = msg;
	int ends[2];

	if (strcmp(way, "send") == 0)
		return send(fd, msg, n, MSG_NOSIGNAL);
	if (strcmp(way, "more") == 0) {
		if (send(fd, m, n - 8, MSG_MORE | MSG_NOSIGNAL) != (ssize_t)n - 8 || send(fd, m + n - 8, 8, MSG_NOSIGNAL) != 8)
			return -1;
		return n;
	}
	if (strcmp(way, "sendfile") == 0) {
		int file = memfd_create("query", 0);
		if (file < 0 || write(file, msg, n) != (ssize_t)n)
			return -1;
		return sendfile(fd, file, &(off_t){0}, n);
	}
	if (strcmp(way, "splice") == 0) {
		if (pipe(ends) < 0 || write(ends[1], msg, n) != (ssize_t)n)
			return -1;
		return splice(ends[0], NULL, fd, NULL, n, 0);
	}
	if (strcmp(way, "io_uring") == 0)
		return by_io_uring(fd, msg, n);
	usage();
	return -1;
}

/* send_query sends one query from a new socket, which stays open unless -x was given. */
static void send_query(void)
{
	unsigned char msg[600], *dns = msg + 2; /* TCP: two bytes of length before it */
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to = {0}, self;
	socklen_t to_len, self_len = sizeof self;
	uint16_t id;

	if (inet_pton(AF_INET, server, &to.v4.sin_addr) == 1) {
		to.v4.sin_family = AF_INET;
		to.v4.sin_port = htons(port);
		to_len = sizeof to.v4;
	} else if (inet_pton(AF_INET6, server, &to.v6.sin6_addr) == 1) {
		to.v6.sin6_family = AF_INET6;
		to.v6.sin6_port = htons(port);
		to_len = sizeof to.v6;
	} else {
		errno = EINVAL;
		fail(server);
	}
	if (getrandom(&id, sizeof id, 0) != sizeof id)
		fail("getrandom");
	size_t n = query(dns, id);
	unsigned char *start = dns;
	if (tcp) {
		msg[0] = n >> 8;
		msg[1] = n & 0xff;
		start = msg;
		n += 2;
	}

	int fd = socket(to.any.sa_family, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	if (fd < 0)
		fail("socket");
	if (connect(fd, &to.any, to_len) < 0)
		fail("connect");
	if (transmit(fd, start, n) != (ssize_t)n)
		fail("send");
	if (report) {
		if (getsockname(fd, &self.any, &self_len) < 0)
			fail("getsockname");
		/* The port is at the same place in both families. */
		dprintf(1, "port=%d id=%d\n", ntohs(self.v4.sin_port), id);
	}
	if (wait_answer) {
		struct timeval limit = {2, 0};
		if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
			fail("setsockopt");
		ssize_t got;
		/* A socket with a time limit is interrupted when strace attaches (man 7 signal). */
		while ((got = recv(fd, msg, sizeof msg, 0)) < 0 && errno == EINTR)
			;
		if (got < 0)
			fail("recv");
		errno = ECONNRESET;
		if (got == 0)
			fail("recv");
	}
	if (shut)
		close(fd);
}

int main(int argc, char **argv)
{
	for (int c; (c = getopt(argc, argv, "+n:s:p:c:b:i:a:y:txwre")) != -1;) {
		switch (c) {
		case 'n': name = optarg; break;
		case 's': server = optarg; break;
		case 'p': port = number(optarg, 65535); break;
		case 'c': count = number(optarg, 1000000); break;
		case 'b': before = number(optarg, 3600000); break;
		case 'i': interval = number(optarg, 3600000); break;
		case 'a': after = number(optarg, 3600000); break;
		case 'y': way = optarg; break;
		case 't': tcp = 1; break;
		case 'x': shut = 1; break;
		case 'w': wait_answer = 1; break;
		case 'r': report = 1; break;
		case 'e': become = 1; break;
		default: usage();
		}
	}
	if (become != (optind < argc))
		usage();
	pause_ms(before);
	for (int i = 0; i < count; i++) {
		if (i > 0)
			pause_ms(interval);
		send_query();
	}
	pause_ms(after);
	if (become) {
		execv(argv[optind], argv + optind);
		fail(argv[optind]);
	}
	return 0;
}
