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

/* Moves datagrams from the front of the outbox to `out`, as many as there is room for. */
static void move(dtlsffi_outbox *box, dtlsffi_outgoing *out)
{
    out->count = out->used = 0;
    out->same = box->length[0];
    while (out->count < box->count && out->count < DTLSFFI_OUTGOING) {
        uint32_t length = box->length[out->count];

        if (length > DTLSFFI_OUTGOING_BYTES - out->used)
            break;
        if (length != out->same)
            out->same = 0;
        out->start[out->count] = out->used;
        out->length[out->count++] = length;
        out->used += length;
    }
    memcpy(out->data, box->data, out->used);
    box->count -= out->count;
    box->used -= out->used;
    memmove(box->length, box->length + out->count, box->count * sizeof(*box->length));
    memmove(box->data, box->data + out->used, box->used);
}

/* Takes the datagrams that wait to be sent. Returns 0 for none, DTLSFFI_ONE and its length for one, their count with
 * DTLSFFI_MORE where others are left, or a negative answer. */
int dtlsffi_conn_take(dtlsffi_conn *conn, dtlsffi_outgoing *out)
{
    dtlsffi_outbox *box = &conn->out;
    int answer = dtlsffi_conn_lock(conn);

    if (answer != 0)
        return answer;
    if (box->count > 0) {
        move(box, out);
        answer = out->count == 1 ? DTLSFFI_ONE + (int)out->used : (int)out->count;
        if (box->count > 0)
            answer = (int)out->count + DTLSFFI_MORE;
        else if (box->data_room > KEPT)
            dtlsffi_outbox_clear(box);
    }
    dtlsffi_conn_unlock(conn);
    return answer;
}

void dtlsffi_outbox_clear(dtlsffi_outbox *box)
{
    OPENSSL_free(box->data);
    OPENSSL_free(box->length);
    memset(box, 0, sizeof(*box));
}
