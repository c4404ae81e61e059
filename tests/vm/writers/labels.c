/* Publishes custom labels, and no thread context, in two threads that use all the CPU they get. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

struct str {
	size_t len;
	const char *buf;
};

struct label {
	struct str key, value;
};

struct label_set {
	const struct label *storage;
	size_t count, capacity;
};

const uint32_t custom_labels_abi_version = 1;
__thread const struct label_set *volatile custom_labels_current_set;

#define STR(text) {sizeof(text) - 1, text}

static const struct label labels[2][3] = {
	{
		{STR("otel_traceid"), STR("a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1")},
		{{0, NULL}, STR("a slot that is not used")},
		{STR("route"), STR("/labels/1")},
	},
	{
		{STR("otel_traceid"), STR("a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2")},
		{{0, NULL}, STR("a slot that is not used")},
		{STR("route"), STR("/labels/2")},
	},
};

static pthread_barrier_t all_publish;

static void *publish(void *own)
{
	const struct label_set set = {own, 3, 3};
	custom_labels_current_set = &set;
	pthread_barrier_wait(&all_publish);
	for (volatile unsigned number = 0;;)
		number = number + 1;
	return NULL;
}

int main(void)
{
	pthread_t thread;
	pthread_barrier_init(&all_publish, NULL, 3);
	for (int i = 0; i < 2; i++) {
		if (pthread_create(&thread, NULL, publish, (void *)labels[i]))
			return 1;
	}
	pthread_barrier_wait(&all_publish);
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
