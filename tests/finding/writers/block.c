/* The two thread-local pointers and the code that sets them: part of an executable, or a shared object.
 *
 * BEFORE and AFTER are bytes of thread-local storage around them, so that nothing lies at offset 0 by chance
 * and a module can be made too large for the static block. EXTERN: they are defined elsewhere. NO_USE: they are used elsewhere.
 */
#include "published.h"

#ifndef BEFORE
#define BEFORE 24
#endif
#ifndef AFTER
#define AFTER 40
#endif
#ifndef PUBLISH
#define PUBLISH publish
#endif

#ifdef EXTERN
extern __thread void *otel_thread_ctx_v1;
extern __thread void *custom_labels_current_set;
#else
__thread char before[BEFORE] = "in front";
__thread void *otel_thread_ctx_v1;
__thread void *custom_labels_current_set;
__thread char after[AFTER] __attribute__((aligned(64)));
const uint32_t custom_labels_abi_version = 1;
#endif

/* Makes `published` current in this thread. */
void PUBLISH(struct published *published)
{
#ifndef EXTERN
    /* Without a use linkers drop them. */
    before[0] = after[AFTER - 1] = 'x';
#endif
#ifndef NO_USE
    otel_thread_ctx_v1 = &published->record;
    custom_labels_current_set = &published->labels;
#else
    (void)published;
#endif
}
