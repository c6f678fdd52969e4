//go:build ignore

/*
 * lookback_load makes system calls and says how many nanoseconds of CPU each took: the best of many
 * short turns, as others use the machine, too.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

#define MEASURE(name, count, call)                                   \
	do {                                                         \
		double best = 1e12;                                  \
		for (int turn = 0; turn < 40; turn++) {              \
			double begin = now();                        \
			for (int i = 0; i < count; i++)              \
				call;                                \
			double took = (now() - begin) / count;       \
			if (took < best)                             \
				best = took;                         \
		}                                                    \
		printf("%s %.0f\n", name, best);                     \
	} while (0)

int main(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	char bytes[64] = {0};
	int udp = socket(AF_INET, SOCK_DGRAM, 0), null = open("/dev/null", O_WRONLY);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	MEASURE("getppid", 2000, syscall(SYS_getppid));
	MEASURE("open", 500, open("/nonexistent/directory/of/some/length", O_RDONLY));
	MEASURE("write", 500, if (write(null, bytes, sizeof bytes)) {});
	MEASURE("connect", 500, connect(udp, (struct sockaddr *)&to, sizeof to));
	return 0;
}
