//go:build ignore

/*
 * catch_launcher starts programs of a user one after the other, or some at a time,
 * and says how long each took from fork to end. It is small and no Go program: fork
 * in Go copies more and waits for the child's execve. It begins when a line comes on
 * its standard input.
 *
 *   launcher exec UID COUNT AT-A-TIME PREFIX PROGRAM [ARGUMENT...]
 *       forks; the child becomes UID and executes PROGRAM. @ in the arguments becomes
 *       a label that no two programs share: PREFIX, "n", six digits.
 *   launcher exec+ UID COUNT AT-A-TIME PREFIX PROGRAM [ARGUMENT...]
 *       the same, and each program has a user of its own, from UID on.
 *   launcher fork UID COUNT AT-A-TIME PREFIX
 *       the same without execve: the child sends the query itself.
 *   launcher noop
 *       ends at once.
 *   launcher calls
 *       says how many nanoseconds a system call takes: the best of some runs.
 *
 * (The first line keeps the Go tool from compiling this file.)
 */
#define _GNU_SOURCE /* setresuid */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct program {
	pid_t pid;
	int status;
	long long start, took; /* ns */
};

static void fail(const char *what)
{
	dprintf(2, "launcher: %s: %s\n", what, strerror(errno));
	_exit(99);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void become(uid_t uid)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		fail("become the user");
}

static void send_query(const char *label)
{
	static const char header[] = "\x12\x34\x01\0\0\1\0\0\0\0\0";
	static const char rest[] = "\7badzone\4test\0\0\1\0\1";
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char msg[128];
	size_t n = 0, len = strlen(label);

	memcpy(msg, header, sizeof header), n += sizeof header;
	msg[n++] = len;
	memcpy(msg + n, label, len), n += len;
	memcpy(msg + n, rest, sizeof rest - 1), n += sizeof rest - 1;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0 || send(fd, msg, n, 0) != (ssize_t)n)
		fail("send");
}

static char *with_label(const char *s, const char *label)
{
	char *end;
	char *out = calloc(1, strlen(s) * 32 + 1);
	if (out == NULL)
		fail("calloc");
	for (end = out; *s != '\0'; s++) {
		if (*s == '@')
			end = stpcpy(end, label);
		else
			*end++ = *s;
	}
	return out;
}

static int calls(void)
{
	enum { RUNS = 20, CALLS = 200000 };
	long long best = 0;
	for (int run = 0; run < RUNS; run++) {
		long long begin = now();
		for (int i = 0; i < CALLS; i++)
			syscall(SYS_getppid);
		long long took = now() - begin;
		if (best == 0 || took < best)
			best = took;
	}
	return printf("%lld\n", best / CALLS) < 0;
}

int main(int argc, char **argv)
{
	char line[16], label[64];
	if (argc == 2 && strcmp(argv[1], "noop") == 0)
		return 0;
	if (argc == 2 && strcmp(argv[1], "calls") == 0)
		return calls();
	if (argc < 6)
		return 2;
	int each = strcmp(argv[1], "exec+") == 0, execs = each || strcmp(argv[1], "exec") == 0;
	uid_t uid = atoi(argv[2]);
	int count = atoi(argv[3]), at_a_time = atoi(argv[4]), running = 0, started = 0;
	struct program *programs = calloc(count, sizeof *programs);
	if (programs == NULL)
		fail("calloc");
	while (read(0, line, sizeof line) < 0)
		if (errno != EINTR)
			fail("read");
	long long begin = now();
	while (started < count || running > 0) {
		if (started < count && running < at_a_time) {
			struct program *p = programs + started;
			snprintf(label, sizeof label, "%sn%06d", argv[5], started);
			p->start = now();
			p->pid = fork();
			if (p->pid < 0)
				fail("fork");
			if (p->pid == 0) {
				become(each ? uid + (uid_t)started : uid);
				if (!execs) {
					send_query(label);
					_exit(0);
				}
				for (int i = 6; i < argc; i++)
					argv[i] = with_label(argv[i], label);
				execv(argv[6], argv + 6);
				fail(argv[6]);
			}
			started++;
			running++;
			continue;
		}
		int status;
		pid_t pid = wait(&status);
		if (pid < 0) {
			if (errno == EINTR)
				continue;
			fail("wait");
		}
		for (int i = started - 1; i >= 0; i--) {
			if (programs[i].pid == pid && programs[i].took == 0) {
				programs[i].took = now() - programs[i].start;
				programs[i].status = status;
				break;
			}
		}
		running--;
	}
	long long took = now() - begin;
	/* Standard output may be the programs', too: ours begins with a tab. */
	for (int i = 0; i < count; i++)
		printf("\tran %sn%06d %d %lld %d\n", argv[5], i, programs[i].pid, programs[i].took, programs[i].status);
	printf("\tall %lld\n", took);
	return fflush(stdout) == 0 ? 0 : 1;
}
