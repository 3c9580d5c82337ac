/* One record there and back at a time, blocking on BIO_dgram.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

int role_pingpong_serve(const options *o)
{
    SSL_CTX *context = context_make(o, true, false);
    int fd = udp_socket("127.0.0.1", o->port);
    uint8_t *room = malloc(DATAGRAM_MAX);
    SSL *ssl;
    int got;

    printf("{\"port\": %d}\n", udp_port(fd));
    fflush(stdout);
    ssl = udp_accept(context, fd);
    while ((got = SSL_read(ssl, room, DATAGRAM_MAX)) > 1)
        (void)SSL_write(ssl, room, got);
    return 0;
}

int role_pingpong(const options *o)
{
    SSL_CTX *context = context_make(o, false, false);
    int fd = udp_socket("127.0.0.1", 0);
    SSL *ssl = udp_connect(context, fd, o->port);
    uint8_t *room = calloc(1, DATAGRAM_MAX);
    struct timeval patience = {.tv_sec = 2};
    size_t count = 0;
    size_t most = (size_t)(o->seconds * 1e6);
    uint64_t *taken = calloc(most, sizeof(uint64_t));
    uint64_t start = nanoseconds();
    uint64_t end = start + (uint64_t)(o->seconds * 1e9);
    uint64_t before = start;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    while (before < end && count < most) {
        uint64_t after;

        if (SSL_write(ssl, room, o->size) != o->size || SSL_read(ssl, room, DATAGRAM_MAX) != o->size)
            die("ping-pong");
        after = nanoseconds();
        taken[count++] = after - before;
        before = after;
    }
    (void)SSL_write(ssl, room, 1);
    qsort(taken, count, sizeof(uint64_t), order_u64);
    printf("{\"per_second\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"count\": %zu}\n",
           (double)count / ((double)(before - start) / 1e9), (double)percentile(taken, count, 0.5) / 1e3,
           (double)percentile(taken, count, 0.99) / 1e3, count);
    return 0;
}
