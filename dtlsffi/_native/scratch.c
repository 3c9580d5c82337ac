/* Memory for the time of a call: as many pieces as there are calls at one time, not as many as connections.
 *
 * Any thread may lend one, and a callback within a call makes calls of its own.
 */
#include "core.h"

/* Returns NULL without memory. What is in it is whatever was before. */
void *dtlsffi_scratch_lend(dtlsffi_scratch *scratch)
{
    for (size_t i = 0; i < DTLSFFI_SPARE; i++) {
        void *piece = atomic_exchange_explicit(&scratch->spare[i], NULL, memory_order_acquire);

        if (piece != NULL)
            return piece;
    }
    return OPENSSL_malloc(scratch->size);
}

void dtlsffi_scratch_give_back(dtlsffi_scratch *scratch, void *piece)
{
    for (size_t i = 0; i < DTLSFFI_SPARE; i++) {
        void *none = NULL;

        if (atomic_compare_exchange_strong_explicit(&scratch->spare[i], &none, piece, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    OPENSSL_free(piece);
}
