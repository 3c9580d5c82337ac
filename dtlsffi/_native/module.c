/* What has to happen once, when the module is loaded. */
#include "core.h"

/* Two processes that go on with one SSL encrypt different data under one nonce, so a connection remembers how many
 * forks it was born after, and refuses to work after one more. */
unsigned long dtlsffi_fork_count = 1; /* 0 is for what has no process yet */

static void count_fork(void)
{
    dtlsffi_fork_count++;
}

int dtlsffi_module_init(void)
{
    static bool done;

    if (!done)
        done = dtlsffi_datagram_bio_init() && dtlsffi_ctx_init() && pthread_atfork(NULL, NULL, count_fork) == 0;
    return done;
}
