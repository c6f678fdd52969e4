//go:build ignore

/*
 * villain does what is bad for whoever traces it, step by step: it is what the
 * fault tests trace. Statically linked, so that it also runs in a chroot.
 *
 *	villain STEP [ARGUMENT]... STEP ...
 *
 * It ends with 0 after the last step, with 1 and a message when a step fails, with
 * 2 on wrong usage. What it prints does not depend on who watches: no PIDs, no times
 * (but those of flood).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char **arg;	      /* what is left of the arguments */
static unsigned char msg[600]; /* the packet */
static size_t length;
static int udp = -1; /* connected to 127.0.0.1:53 */

static void fail(const char *what)
{
	dprintf(2, "villain: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *next(void)
{
	if (*arg == NULL) {
		dprintf(2, "usage: villain STEP [ARGUMENT]...\n");
		exit(2);
	}
	return *arg++;
}

static long number(void)
{
	char *end, *s = next();
	long n = strtol(s, &end, 0);
	if (*s == '\0' || *end != '\0') {
		errno = EINVAL;
		fail(s);
	}
	return n;
}

static void put(int fd, const void *data, size_t n)
{
	if (write(fd, data, n) != (ssize_t)n)
		fail("write");
}

/* packet NAME: make a question for the A record of the name (RFC 1035, section 4) */
static void packet(void)
{
	static const unsigned char head[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	const char *name = next();

	memcpy(msg, head, length = sizeof head);
	while (*name != '\0') {
		size_t n = strcspn(name, ".");
		errno = EINVAL;
		if (n == 0 || n > 63 || length + n > 500)
			fail(name);
		msg[length++] = n;
		memcpy(msg + length, name, n);
		length += n;
		name += n + (name[n] == '.');
	}
	memcpy(msg + length, "\0\0\1\0\1", 5);
	length += 5;
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int socket_to(int port)
{
	struct sockaddr_in to = address("127.0.0.1", port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		fail("socket");
	return fd;
}

/* send: send the packet */
static void send_packet(void)
{
	if (udp < 0)
		udp = socket_to(53);
	if (send(udp, msg, length, 0) != (ssize_t)length)
		fail("send");
}

/* decoys FILE: give the packet's bytes to a file, a pipe, a UNIX socket and another port */
static void decoys(void)
{
	int file = open(next(), O_WRONLY | O_CREAT | O_APPEND, 0600), fds[2];
	if (file < 0)
		fail("open");
	put(file, msg, length);
	if (pipe(fds) < 0)
		fail("pipe");
	put(fds[1], msg, length);
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) < 0 || send(fds[1], msg, length, 0) < 0)
		fail("socketpair");
	/* Another port: not what the rule of the test matches, and nobody listens. */
	if (send(socket_to(9), msg, length, 0) < 0)
		fail("send to another port");
}

/* write FILE TEXT: append it, and close the file */
static void write_file(void)
{
	int fd = open(next(), O_WRONLY | O_CREAT | O_APPEND, 0600);
	const char *text = next();
	if (fd < 0)
		fail("open");
	put(fd, text, strlen(text));
	close(fd);
}

/* flood COUNT: send so many packets, each with another name, as fast as it goes */
static void flood(void)
{
	enum { batch = 64, size = 12 + 1 + 12 + 1 + 7 + 1 + 4 + 1 + 4 };
	static unsigned char data[batch][size];
	struct sockaddr_in to = address("127.0.0.2", 53);
	struct iovec iov[batch];
	struct mmsghdr m[batch];
	struct timespec begin, end;
	long count = number(), sent = 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	memset(m, 0, sizeof m);
	for (int i = 0; i < batch; i++) {
		memcpy(data[i], "\x12\x34\1\0\0\1\0\0\0\0\0\0\x0c" "000000000000" "\7badzone" "\4test" "\0\0\1\0\1", size);
		iov[i] = (struct iovec){data[i], size};
		m[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov[i], .msg_iovlen = 1};
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (sent < count) {
		int n = count - sent < batch ? (int)(count - sent) : batch;
		for (int i = 0; i < n; i++)
			for (long k = sent + i, d = 24; d > 12; d--, k /= 10)
				data[i][d] = '0' + k % 10;
		if ((n = sendmmsg(fd, m, n, 0)) < 0)
			fail("sendmmsg");
		sent += n;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("sent %ld in %.6f s\n", sent, end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9);
}

/* forks COUNT: start so many children, one after the other, that end at once */
static void forks(void)
{
	for (long n = number(); n > 0; n--) {
		pid_t pid = vfork();
		if (pid == 0)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) < 0)
			fail("fork");
	}
}

/* bomb: every process forks until it cannot, and then all but the first end; never comes back */
static void bomb(void)
{
	pid_t first = getpid();
	signal(SIGCHLD, SIG_IGN);
	for (;;)
		if (fork() < 0 && getpid() != first)
			_exit(0);
}

/* fork: a child takes the next steps; its parent ends as the child does */
static void child(pid_t pid)
{
	int status;
	if (pid == 0)
		return;
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		fail("fork");
	exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void fork_child(void) { child(fork()); }

/* untraced: the same with a child that no tracer of the parent's is to follow */
static void untraced(void)
{
	child(syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0));
}

/* vfork: stand still, for signals too, until a child has read a line ("wait") */
static void stand_still(void)
{
	char c;
	pid_t pid = vfork();
	if (pid == 0) {
		if (write(1, "wait\n", 5) != 5 || read(0, &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) < 0)
		fail("vfork");
}

/* vsend: a child of vfork sends the packet, and its parent waits for it */
static void vfork_send(void)
{
	int status = 0;
	pid_t pid = vfork();
	if (pid == 0) {
		send_packet();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
		fail("vfork");
}

/* wait: until there is a line on standard input; "wait" is printed before */
static void wait_line(void)
{
	char c = 0;
	put(1, "wait\n", 5);
	while (c != '\n')
		if (read(0, &c, 1) != 1)
			exit(0);
}

static void unshare_what(void)
{
	const char *what = next();
	if (unshare(!strcmp(what, "net") ? CLONE_NEWNET : !strcmp(what, "mnt") ? CLONE_NEWNS :
		    !strcmp(what, "pid") ? CLONE_NEWPID : !strcmp(what, "user") ? CLONE_NEWUSER : -1) < 0)
		fail(what);
}

static void enter(void)
{
	int fd = open(next(), O_RDONLY);
	if (fd < 0 || setns(fd, 0) < 0)
		fail("setns");
	close(fd);
}

static void set_uid(void)
{
	uid_t uid = number();
	if (setresuid(uid, uid, uid) < 0)
		fail("setresuid");
}

static void change_root(void)
{
	if (chroot(next()) < 0 || chdir("/") < 0)
		fail("chroot");
}

static void limit(void)
{
	rlim_t n = number();
	if (setrlimit(RLIMIT_NPROC, &(struct rlimit){n, n}) < 0)
		fail("setrlimit");
}

static void become(void)
{
	execv(*arg == NULL ? next() : *arg, arg);
	fail("execv");
}

static void ids(void)
{
	uid_t r, e, s;
	getresuid(&r, &e, &s);
	/* The PID is told only where a namespace makes it small. */
	printf("uid %u %u %u%s\n", r, e, s, getpid() == 1 ? ", PID 1" : "");
}

static void say(void) { puts(next()); }
static void name(void) { prctl(PR_SET_NAME, next()); }
static void raise_signal(void) { raise(number()); }
static void sleep_ms(void) { usleep(number() * 1000); }
static void leave(void) { exit(number()); }

static const struct {
	const char *name;
	void (*run)(void);
} steps[] = {
	{"bomb", bomb}, {"chroot", change_root}, {"decoys", decoys}, {"exec", become}, {"exit", leave},
	{"flood", flood}, {"fork", fork_child}, {"forks", forks}, {"ids", ids}, {"limit", limit},
	{"name", name}, {"packet", packet}, {"say", say}, {"send", send_packet}, {"setns", enter},
	{"setuid", set_uid}, {"signal", raise_signal}, {"sleep", sleep_ms}, {"unshare", unshare_what},
	{"untraced", untraced}, {"vfork", stand_still}, {"vsend", vfork_send}, {"wait", wait_line}, {"write", write_file},
};

int main(int argc, char **argv)
{
	(void)argc;
	setvbuf(stdout, NULL, _IONBF, 0);
	for (arg = argv + 1; *arg != NULL;) {
		const char *step = next();
		size_t i = 0;
		while (i < sizeof steps / sizeof *steps && strcmp(steps[i].name, step) != 0)
			i++;
		if (i == sizeof steps / sizeof *steps) {
			dprintf(2, "villain: no step %s\n", step);
			return 2;
		}
		steps[i].run();
	}
	return 0;
}
