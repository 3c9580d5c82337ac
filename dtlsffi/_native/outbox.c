/* Datagrams on their way to the wire: their bytes lie one behind the other, so that a batch is one piece of memory.
 *
 * An empty outbox holds no memory.
 */
#include "core.h"

static bool grow(void **memory, size_t *room, size_t needed, size_t size)
{
    size_t wanted = *room == 0 ? needed : *room;
    void *larger;

    while (wanted < needed)
        wanted *= 2;
    if (wanted == *room)
        return true;
    larger = OPENSSL_realloc(*memory, wanted * size);
    if (larger == NULL)
        return false;
    *memory = larger;
    *room = wanted;
    return true;
}

bool dtlsffi_outbox_append(dtlsffi_outbox *box, const uint8_t *data, size_t length)
{
    if (!grow((void **)&box->data, &box->data_room, box->used + length, 1)
        || !grow((void **)&box->length, &box->count_room, box->count + 1, sizeof(*box->length)))
        return false;
    memcpy(box->data + box->used, data, length);
    box->used += length;
    box->length[box->count++] = (uint32_t)length;
    return true;
}

void dtlsffi_outbox_clear(dtlsffi_outbox *box)
{
    OPENSSL_free(box->data);
    OPENSSL_free(box->length);
    memset(box, 0, sizeof(*box));
}
