//go:build ignore

/*
 * offender sends a DNS query, the way malware in a hurry does: it is what the
 * black-box tests hunt. Same options as main.go beside it, which describes them.
 * No resolver of libc, linked statically: it lives for a millisecond or two.
 * (The first line keeps the Go tool from compiling this file into main.go.)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *name = "x.badzone.test", *server = "127.0.0.1";
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
		   " [-t] [-x] [-w] [-r] [-e PROGRAM [ARGUMENT...]]\n");
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
	if (send(fd, start, n, MSG_NOSIGNAL) != (ssize_t)n)
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
	for (int c; (c = getopt(argc, argv, "+n:s:p:c:b:i:a:txwre")) != -1;) {
		switch (c) {
		case 'n': name = optarg; break;
		case 's': server = optarg; break;
		case 'p': port = number(optarg, 65535); break;
		case 'c': count = number(optarg, 1000000); break;
		case 'b': before = number(optarg, 3600000); break;
		case 'i': interval = number(optarg, 3600000); break;
		case 'a': after = number(optarg, 3600000); break;
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
