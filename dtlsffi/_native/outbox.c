/* Datagrams on their way to the wire: their bytes lie one behind the other, so that a batch is one piece of memory.
 *
 * An empty outbox holds a little memory, for the next record, or none.
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

/* Sees that so many datagrams, of so many bytes in all, find room at once. */
bool dtlsffi_outbox_reserve(dtlsffi_outbox *box, size_t count, size_t bytes)
{
    return grow((void **)&box->data, &box->data_room, box->used + bytes, 1)
           && grow((void **)&box->length, &box->count_room, box->count + count, sizeof(*box->length));
}

bool dtlsffi_outbox_append(dtlsffi_outbox *box, const uint8_t *data, size_t length)
{
    if (!dtlsffi_outbox_reserve(box, 1, length))
        return false;
    memcpy(box->data + box->used, data, length);
    box->used += length;
    box->length[box->count++] = (uint32_t)length;
    return true;
}

/* What an outbox may keep for later: a record of common size, or a few. */
#define KEPT 2048

/* All of it has been taken. */
void dtlsffi_outbox_empty(dtlsffi_outbox *box)
{
    box->count = box->used = 0;
    if (box->data_room > KEPT)
        dtlsffi_outbox_clear(box);
}

void dtlsffi_outbox_clear(dtlsffi_outbox *box)
{
    OPENSSL_free(box->data);
    OPENSSL_free(box->length);
    memset(box, 0, sizeof(*box));
}
