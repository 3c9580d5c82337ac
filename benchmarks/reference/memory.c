/* Without any socket: the cost of a record, the cost of a handshake.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <openssl/x509v3.h>

typedef struct {
    outbox to_server;
    outbox to_client;
    wire client_wire;
    wire server_wire;
    SSL *client;
    SSL *server;
} pair;

static void pair_wires(pair *p)
{
    outbox_make(&p->to_server, 4 << 20, 4096);
    outbox_make(&p->to_client, 1 << 20, 4096);
    p->client_wire = (wire){.out = &p->to_server};
    p->server_wire = (wire){.out = &p->to_client};
}

static void pair_open(pair *p, SSL_CTX *client, SSL_CTX *server, SSL_SESSION *session, bool verify)
{
    p->client_wire.in_length = p->server_wire.in_length = 0;
    p->client = wire_ssl(client, &p->client_wire, false);
    p->server = wire_ssl(server, &p->server_wire, true);
    if (verify) {
        SSL_set_verify(p->client, SSL_VERIFY_PEER, NULL);
        X509_VERIFY_PARAM_set1_host(SSL_get0_param(p->client), HOST, 0);
        SSL_set_tlsext_host_name(p->client, HOST);
    }
    if (session != NULL)
        SSL_set_session(p->client, session);
    wire_shake_hands(p->client, &p->client_wire, p->server, &p->server_wire);
}

/* `batch` records are sealed, then opened. */
static void one_batch(pair *p, const uint8_t *data, uint8_t *room, int size, int batch)
{
    const uint8_t *start = p->to_server.data;

    for (int i = 0; i < batch; i++) {
        if (SSL_write(p->client, data, size) != size)
            die("SSL_write");
    }
    for (int i = 0; i < batch; i++) {
        p->server_wire.in = start;
        p->server_wire.in_length = p->to_server.length[i];
        start += p->to_server.length[i];
        if (SSL_read(p->server, room, DATAGRAM_MAX) != size)
            die("SSL_read");
    }
    outbox_clear(&p->to_server);
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ns of CPU time for a record, sealed and opened. */
int role_record(const options *o)
{
    pair p;
    uint8_t *data = calloc(1, (size_t)o->size);
    uint8_t *room = malloc(DATAGRAM_MAX);
    long records = 0;
    double start;
    double end;

    pair_wires(&p);
    pair_open(&p, context_make(o, false, false), context_make(o, true, false), NULL, false);
    for (int i = 0; i < 2000; i++)
        one_batch(&p, data, room, o->size, 1);
    start = cpu_seconds();
    end = now() + o->seconds;
    do {
        for (int i = 0; i < 256; i++)
            one_batch(&p, data, room, o->size, o->batch);
        records += 256L * o->batch;
    } while (now() < end);
    printf("{\"ns_per_record\": %.2f, \"size\": %d, \"batch\": %d, \"records\": %ld}\n",
           (cpu_seconds() - start) * 1e9 / (double)records, o->size, o->batch, records);
    free(data);
    free(room);
    return 0;
}

/* Each side says close_notify, once, which nobody reads. */
static void pair_close(pair *p)
{
    (void)SSL_shutdown(p->client);
    (void)SSL_shutdown(p->server);
    outbox_clear(&p->to_server);
    outbox_clear(&p->to_client);
    SSL_free(p->client);
    SSL_free(p->server);
}

/* CPU time of a handshake, both sides together: full, resumed or psk. */
int role_handshake(const options *o)
{
    bool psk = strcmp(o->mode, "psk") == 0;
    bool resumed = strcmp(o->mode, "resumed") == 0;
    SSL_CTX *client = context_make(o, false, psk);
    SSL_CTX *server = context_make(o, true, psk);
    SSL_SESSION *session = NULL;
    pair p;
    double start;
    double end;
    long count = 0;

    pair_wires(&p);
    if (psk) {
        SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
        SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    }
    pair_open(&p, client, server, NULL, !psk);
    if (resumed)
        session = SSL_get1_session(p.client);
    pair_close(&p);
    start = cpu_seconds();
    end = now() + o->seconds;
    while (now() < end) {
        pair_open(&p, client, server, session, !psk);
        if (resumed != (SSL_session_reused(p.client) == 1))
            die("resumption");
        pair_close(&p);
        count++;
    }
    printf("{\"us_per_handshake\": %.2f, \"mode\": \"%s\", \"handshakes\": %ld}\n",
           (cpu_seconds() - start) * 1e6 / (double)count, o->mode, count);
    return 0;
}
