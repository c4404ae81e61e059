/* Publishes in two threads, and in a third one nothing, and keeps all of them busy.
 *
 * Prints "ready" once that is so. Arguments, in the order in which they are done:
 *
 *   open FILE    loads a shared object and takes `publish` from it
 *   again FILE   loads one more, whose `publish` the second thread calls
 *   wait         publishes only after a line on standard input: what follows is done then, too
 *   exec FILE    becomes another program at once, with the remaining arguments
 *   unlink FILE  deletes a file before printing "ready"
 *
 * Ends when standard input does.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef NO_DLOPEN
#include <dlfcn.h>
#endif

#include "published.h"

#define PUBLISHING 2
#define THREADS (PUBLISHING + 1)

typedef void publish_function(struct published *);

#ifdef LINKED
publish_function publish;
static publish_function *publish_in[PUBLISHING] = {publish, publish};
#else
static publish_function *publish_in[PUBLISHING];
#endif

static struct published published[PUBLISHING];
static pthread_barrier_t barrier;
static volatile int may_publish;

/* Busy, with pauses: many writers share few CPUs. */
static void spin(void)
{
    for (volatile int i = 0; i < 500000; i++)
        ;
    usleep(2000);
}

static void *thread(void *argument)
{
    int number = (int)(intptr_t)argument;
    char name[] = "publishes-0";

    name[sizeof name - 2] += (char)number;
    pthread_setname_np(pthread_self(), number < PUBLISHING ? name : "silent");
    if (number < PUBLISHING) {
        /* Threads that exist before the object is loaded are another case than those that do not. */
        while (!may_publish)
            usleep(1000);
        publish_in[number](&published[number]);
    }
    pthread_barrier_wait(&barrier);
    for (;;)
        spin();
    return NULL;
}

#ifndef NO_DLOPEN
static publish_function *load(const char *path)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    publish_function *found = object ? (publish_function *)dlsym(object, "publish") : NULL;

    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}
#endif

int main(int argc, char **argv)
{
    char line[16];

    for (int i = 0; i < PUBLISHING; i++)
        prepare(&published[i], i);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (intptr_t i = 0; i < THREADS; i++) {
        pthread_t id;
        pthread_create(&id, NULL, thread, (void *)i);
    }
    for (int i = 1; i < argc; i++) {
        const char *what = argv[i];

        if (!strcmp(what, "wait")) {
            puts("waiting");
            fflush(stdout);
            if (!fgets(line, sizeof line, stdin))
                return 0;
        } else if (i + 1 >= argc) {
            return 2;
        } else if (!strcmp(what, "exec")) {
            execv(argv[i + 1], argv + i + 1);
            perror(argv[i + 1]);
            return 1;
        } else if (!strcmp(what, "unlink")) {
            unlink(argv[++i]);
#ifndef NO_DLOPEN
        } else if (!strcmp(what, "open")) {
            publish_in[0] = publish_in[1] = load(argv[++i]);
        } else if (!strcmp(what, "again")) {
            publish_in[1] = load(argv[++i]);
#endif
        } else {
            return 2;
        }
    }
    may_publish = 1;
    pthread_barrier_wait(&barrier);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        ;
    return 0;
}
