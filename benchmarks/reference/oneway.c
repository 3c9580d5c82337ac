/* One way over loopback: as fast as the sender can, counted by the receiver. A record of one byte ends it.
 */
#include "common.h"

#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define GSO_BATCH 128 /* records sealed before they are sent */
#define MMSG_BATCH 32

typedef struct {
    long records;
    double first;
    double last;
    bool ended;
} tally;

static void count_record(tally *t, int length)
{
    if (length == 1)
        t->ended = true;
    else if (length > 0)
        t->records++;
}

static void receive_plain(SSL *ssl, tally *t, uint8_t *room)
{
    int got = SSL_read(ssl, room, DATAGRAM_MAX);

    t->first = now();
    while (got > 0 && !t->ended) {
        count_record(t, got);
        if (!t->ended)
            got = SSL_read(ssl, room, DATAGRAM_MAX);
    }
}

static void receive_message(SSL *ssl, wire *w, intake *in, int index, tally *t, uint8_t *room)
{
    const uint8_t *data = in->pieces[index].iov_base;
    size_t left = in->messages[index].msg_len;
    size_t segment = intake_segment(in, index);

    while (left > 0) {
        size_t length = left < segment ? left : segment;

        w->in = data;
        w->in_length = length;
        count_record(t, SSL_read(ssl, room, DATAGRAM_MAX));
        data += length;
        left -= length;
    }
}

static void receive_batches(SSL *ssl, int fd, bool gro, tally *t, uint8_t *room)
{
    static intake in;
    static outbox out;
    wire w = {.out = &out};
    BIO *bio = wire_bio(&w);
    int on = 1;
    int count;

    if (gro && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) < 0)
        die("UDP_GRO");
    outbox_make(&out, 1 << 16, 64);
    intake_make(&in, gro ? 16 : BATCH, gro ? DATAGRAM_MAX : 16384);
    SSL_set_bio(ssl, bio, bio);
    while (!t->ended && (count = intake_take(&in, fd, MSG_WAITFORONE)) > 0) {
        if (t->records == 0)
            t->first = now();
        for (int i = 0; i < count && !t->ended; i++)
            receive_message(ssl, &w, &in, i, t, room);
    }
}

int role_oneway_receive(const options *o)
{
    SSL_CTX *context = context_make(o, true, false);
    int fd = udp_socket("127.0.0.1", o->port);
    struct timeval patience = {.tv_sec = 2};
    uint8_t *room = malloc(DATAGRAM_MAX);
    tally t = {0};
    SSL *ssl;

    printf("{\"port\": %d}\n", udp_port(fd));
    fflush(stdout);
    ssl = udp_accept(context, fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (strcmp(o->mode, "plain") == 0)
        receive_plain(ssl, &t, room);
    else
        receive_batches(ssl, fd, strcmp(o->mode, "gso") == 0, &t, room);
    t.last = now();
    printf("{\"records\": %ld, \"seconds\": %.6f, \"per_second\": %.1f}\n", t.records, t.last - t.first,
           (double)t.records / (t.last - t.first));
    return 0;
}

static long send_plain(SSL *ssl, const uint8_t *data, int size, double end)
{
    long sent = 0;

    while (now() < end) {
        for (int i = 0; i < 32; i++)
            (void)SSL_write(ssl, data, size);
        sent += 32;
    }
    return sent;
}

static long send_batches(SSL *ssl, int fd, const uint8_t *data, int size, double end, bool gso)
{
    static outbox out;
    wire w = {.out = &out};
    BIO *bio = wire_bio(&w);
    int batch = gso ? GSO_BATCH : MMSG_BATCH;
    long sent = 0;

    outbox_make(&out, 1 << 22, GSO_BATCH);
    SSL_set_bio(ssl, bio, bio);
    while (now() < end) {
        outbox_clear(&out);
        for (int i = 0; i < batch; i++)
            (void)SSL_write(ssl, data, size);
        if (gso)
            udp_send_gso(fd, &out);
        else
            udp_send_mmsg(fd, &out);
        sent += batch;
    }
    return sent;
}

int role_oneway_send(const options *o)
{
    SSL_CTX *context = context_make(o, false, false);
    int fd = udp_socket("127.0.0.1", 0);
    SSL *ssl = udp_connect(context, fd, o->port);
    uint8_t *data = calloc(1, (size_t)o->size);
    double end = now() + o->seconds;
    long sent;

    if (strcmp(o->mode, "plain") == 0)
        sent = send_plain(ssl, data, o->size, end);
    else
        sent = send_batches(ssl, fd, data, o->size, end, strcmp(o->mode, "gso") == 0);
    printf("{\"sent\": %ld}\n", sent);
    for (int i = 0; i < 20; i++) { /* some of them get through */
        static outbox out;
        wire w = {.out = &out};
        BIO *bio = wire_bio(&w);

        usleep(10000);
        if (out.data == NULL)
            outbox_make(&out, 1 << 16, 64);
        outbox_clear(&out);
        SSL_set_bio(ssl, bio, bio);
        (void)SSL_write(ssl, data, 1);
        (void)!send(fd, out.data, out.used, 0);
    }
    return 0;
}
