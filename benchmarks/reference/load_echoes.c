/* Echoes: as many as the server can, or so many a second. Everything is sealed before the clock starts, and replies are
 * opened (all at a fixed rate, one in eight when saturated), so that the server is what is slow.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEALED_MAX (768UL << 20) /* bytes */
#define SILENCE 0.2              /* seconds after which what is outstanding counts as lost */

typedef struct {
    uint8_t *sealed;
    size_t length;        /* of a sealed record */
    long total;
    long sent;
    long received;
    long outstanding;
    long wrong;
    uint64_t *sent_at;
    uint64_t *taken;
    size_t samples;
    double last_received;
} run;

static double expected = 400000; /* echoes a second, as far as is known */
static uint8_t room[DATAGRAM_MAX];

static void seal(run *r, long total, int size)
{
    uint8_t *data = calloc(1, (size_t)size);

    r->length = 0;
    r->total = total;
    for (long k = 0; k < total; k++) {
        outbox_clear(&g.out);
        memcpy(data, &k, sizeof(k));
        if (SSL_write(g.peers[k % g.count].ssl, data, size) != size)
            die("sealing");
        if (k == 0) {
            r->length = g.out.used;
            if ((size_t)total * r->length > SEALED_MAX)
                r->total = total = (long)(SEALED_MAX / r->length);
            r->sealed = malloc((size_t)total * r->length);
            if (r->sealed == NULL)
                die("sealing");
        }
        memcpy(r->sealed + (size_t)k * r->length, g.out.data, r->length);
    }
    outbox_clear(&g.out);
    free(data);
}

static void send_some(run *r, long count)
{
    const uint8_t *data[BATCH];
    int index[BATCH];
    uint64_t time;

    if (count > BATCH)
        count = BATCH;
    if (count > r->total - r->sent)
        count = r->total - r->sent;
    for (int i = 0; i < count; i++) {
        data[i] = r->sealed + (size_t)(r->sent + i) * r->length;
        index[i] = (int)((r->sent + i) % g.count);
    }
    time = nanoseconds();
    for (int i = 0; r->sent_at != NULL && i < count; i++)
        r->sent_at[r->sent + i] = time;
    if (count > 0)
        generator_send(data, r->length, index, (int)count);
    r->sent += count;
    r->outstanding += count;
}

static void look_at(run *r, int message, uint64_t time, bool all)
{
    size_t length;
    const uint8_t *data = generator_data(message, &length);
    int peer = generator_peer(message);
    long k;
    int got;

    if (peer < 0 || length != r->length || data[0] != SSL3_RT_APPLICATION_DATA)
        return;
    r->received++;
    r->outstanding--;
    if (!all && r->received % 8 != 0)
        return;
    got = generator_read(peer, data, length, room);
    memcpy(&k, room, sizeof(k));
    if (got < (int)sizeof(k) || k < 0 || k >= r->sent || k % g.count != peer)
        r->wrong++;
    else if (r->taken != NULL)
        r->taken[r->samples++] = time - r->sent_at[k];
}

static void receive_some(run *r, bool all)
{
    int count = generator_take();
    uint64_t time = nanoseconds();

    for (int i = 0; i < count; i++)
        look_at(r, i, time, all);
    if (count > 0)
        r->last_received = (double)time / 1e9;
    else if (r->outstanding > 0 && (double)time / 1e9 > r->last_received + SILENCE)
        r->outstanding = 0;
}

static void run_saturated(run *r, double start, double seconds, int window)
{
    while (now() < start + seconds && r->sent < r->total) {
        if (r->outstanding < window)
            send_some(r, window - r->outstanding);
        receive_some(r, false);
    }
}

static void run_at_rate(run *r, double start, double seconds, double rate)
{
    while (now() < start + seconds && r->sent < r->total) {
        long due = (long)((now() - start) * rate) + 1;

        if (due > r->sent)
            send_some(r, due - r->sent);
        receive_some(r, true);
    }
}

/* Without a rate as fast as the server is, `window` outstanding. One line of JSON. */
void run_echoes(const options *o, double seconds, int size, int window, double rate)
{
    run r = {0};
    double start;
    double end;
    double cpu;

    if (window > g.count)
        window = g.count;
    seal(&r, (long)((rate > 0 ? rate : expected) * seconds) + 1000, size < 8 ? 8 : size);
    r.sent_at = rate > 0 ? calloc((size_t)r.total, sizeof(uint64_t)) : NULL;
    r.taken = rate > 0 ? calloc((size_t)r.total, sizeof(uint64_t)) : NULL;
    while (generator_take() > 0)
        ;
    cpu = process_cpu(o->pid);
    start = r.last_received = now();
    if (rate > 0)
        run_at_rate(&r, start, seconds, rate);
    else
        run_saturated(&r, start, seconds, window);
    end = now();
    long in_time = r.received;
    while (r.received < r.sent && now() < end + (rate > 0 ? 1 : SILENCE))
        receive_some(&r, rate > 0);
    cpu = process_cpu(o->pid) - cpu;
    if (rate <= 0)
        expected = (double)in_time / (end - start) * 1.5 + 1000;
    qsort(r.taken, r.samples, sizeof(uint64_t), order_u64);
    printf("{\"per_second\": %.1f, \"sent\": %ld, \"received\": %ld, \"lost\": %ld, \"wrong\": %ld, "
           "\"seconds\": %.4f, \"server_cpu\": %.3f, \"server_cpu_us\": %.3f, "
           "\"p50_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f, \"peers\": %d}\n",
           (double)in_time / (end - start), r.sent, r.received, r.sent - r.received, r.wrong, end - start, cpu,
           r.received > 0 ? cpu * 1e6 / (double)r.received : 0.0, (double)percentile(r.taken, r.samples, 0.5) / 1e3,
           (double)percentile(r.taken, r.samples, 0.99) / 1e3, (double)percentile(r.taken, r.samples, 1) / 1e3,
           g.count);
    free(r.sealed);
    free(r.sent_at);
    free(r.taken);
}
