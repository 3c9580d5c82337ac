/* What is done about ClientHellos of strangers: all in C, since this is what a flood is made of. */
#include "core.h"

#include <string.h>
#include <sys/socket.h>

/* HelloVerifyRequests on their way. */
typedef struct {
    int count;
    uint8_t data[DTLSFFI_BATCH][DTLSFFI_HELLO_VERIFY_REQUEST];
    dtlsffi_message messages[DTLSFFI_BATCH];
    struct iovec pieces[DTLSFFI_BATCH];
    dtlsffi_sockaddr names[DTLSFFI_BATCH];
    dtlsffi_control spaces[DTLSFFI_BATCH];
} replies;

static void add(replies *to, const dtlsffi_udp *udp, const dtlsffi_batch *batch, uint32_t from, int length)
{
    int i = to->count;
    struct msghdr *message = &to->messages[i].msg_hdr;

    memset(message, 0, sizeof(*message));
    to->pieces[i].iov_base = to->data[i];
    to->pieces[i].iov_len = (size_t)length;
    message->msg_iov = &to->pieces[i];
    message->msg_iovlen = 1;
    if (dtlsffi_udp_address(udp, message, &batch->senders[from], &batch->receivers[from], &to->names[i],
                            &to->spaces[i]))
        to->count++;
}

/* What the kernel does not take is lost: they ask again. Where it does not like one by itself, that is tried once more
 * from any address of ours. */
static void flush(replies *what, dtlsffi_udp *udp)
{
    int done = 0;

    while (done < what->count) {
        int sent = dtlsffi_sendmmsg(udp->fd, what->messages + done, (unsigned int)(what->count - done),
                                    MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent <= 0) {
            what->messages[done].msg_hdr.msg_controllen = 0;
            sent = sendmsg(udp->fd, &what->messages[done].msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
            done += sent == 0;
            DTLSFFI_COUNT(udp->dropped_unsent, (uint64_t)(sent == 0));
        }
        done += sent;
        DTLSFFI_COUNT(udp->datagrams_sent, (uint64_t)sent);
    }
    what->count = 0;
}

/* Whether the ClientHello that a datagram begins with is in one piece. */
static bool is_whole(const uint8_t *data)
{
    return memcmp(data + 14, data + 22, 3) == 0;
}

/* Answers the ClientHellos among a batch's strangers that have no cookie, and takes them from the list. Where a
 * batch is full, more comes than is answered in time, and what waits in the kernel is lost, whoever sent it: so
 * every second of them is passed over then (an answer costs more than a look), and those who have proved their
 * addresses get through. The same goes for what follows a first fragment where none is waited for (`expected`). */
void dtlsffi_strangers_answer_untrusted(dtlsffi_udp *udp, dtlsffi_cookie_jar *jar, dtlsffi_batch *batch, int expected)
{
    static _Atomic unsigned turn;
    bool flooded = batch->count == DTLSFFI_BATCH;
    uint32_t kept = 0;
    replies out;

    out.count = 0;
    for (uint32_t i = 0; i < batch->stranger_count; i++) {
        dtlsffi_stranger *who = &batch->strangers[i];
        bool pass = flooded && (turn++ & 1);
        uint8_t random[DTLSFFI_HELLO_RANDOM];
        int what = dtlsffi_hello_look_untrusted(jar, &batch->senders[who->message],
                                                batch->data[who->message] + who->offset, who->length,
                                                pass ? NULL : out.data[out.count], random);

        if (what > 0) {
            add(&out, udp, batch, who->message, what);
            batch->answered++;
            if (out.count == DTLSFFI_BATCH)
                flush(&out, udp);
        } else if (what == DTLSFFI_HELLO_UNPROVEN
                   || (what == DTLSFFI_HELLO_FRAGMENT && flooded && !expected)) {
            batch->passed_over++;
        } else if (what == DTLSFFI_HELLO_BAD) {
            batch->malformed++;
        } else {
            who->proven = what == DTLSFFI_HELLO_PROVEN;
            if (who->proven) {
                memcpy(who->random, random, sizeof(random));
                expected |= !is_whole(batch->data[who->message] + who->offset); /* the rest is behind it, perhaps */
            }
            batch->strangers[kept++] = *who;
        }
    }
    batch->stranger_count = kept;
    flush(&out, udp);
}
