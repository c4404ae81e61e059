/* Two threads, the first one among them, use the CPU at the end of a chain of functions. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;

static double cpu_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

__attribute__((noinline)) static unsigned long spin(unsigned long number)
{
	for (int i = 0; i < 20000; i++)
		number = number * 6364136223846793005ul + 1442695040888963407ul;
	return number;
}

/* A frame of its own, of some size, and work after the call: no tail call. */
#define LINK(name, next)                                                       \
	__attribute__((noinline)) static unsigned long name(unsigned long n)   \
	{                                                                      \
		volatile unsigned long room[24];                               \
		room[n % 24] = n;                                              \
		unsigned long result = next(n + 1);                            \
		return result ^ room[n % 24];                                  \
	}

LINK(link_a, spin)
LINK(link_b, link_a)
LINK(link_c, link_b)
LINK(link_d, link_c)
LINK(link_e, link_d)
LINK(link_f, link_e)
LINK(link_g, link_f)
LINK(link_h, link_g)

static double seconds;

__attribute__((noinline)) static void *outermost_work(void *argument)
{
	double end = cpu_seconds() + seconds;
	while (cpu_seconds() < end)
		sink += link_h((unsigned long)argument);
	return NULL;
}

int main(int argc, char **argv)
{
	seconds = argc > 1 ? atof(argv[1]) : 1;
	pthread_t thread;
	if (pthread_create(&thread, NULL, outermost_work, &thread) != 0)
		return 1;
	outermost_work(argv);
	return pthread_join(thread, NULL);
}
