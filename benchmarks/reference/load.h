/* The load generator's inner parts: any number of peers, each with an address of its own in 127.0.0.0/8, behind one
 * socket, so that what is measured is the server.
 */
#ifndef REFERENCE_LOAD_H
#define REFERENCE_LOAD_H

#include "common.h"

#define PEERS_MAX 40000

typedef struct {
    SSL *ssl;
    wire wire;
} client;

typedef struct {
    int fd;
    struct sockaddr_in server;
    SSL_CTX *context;
    SSL_SESSION *session; /* the last one there was: to be resumed */
    client peers[PEERS_MAX];
    int count;
    outbox out;
    int destination[4 * BATCH];
    intake in;
} generator;

extern generator g;

void generator_open(const options *o);
void generator_send(const uint8_t *const *data, size_t length, const int *index, int count);
int generator_take(void);
int generator_peer(int message);
const uint8_t *generator_data(int message, size_t *length);
int generator_read(int peer, const uint8_t *data, size_t length, uint8_t *room);

int clients_connect(int from, int to, bool resume, int window);
void clients_close(int from, int to);

void run_echoes(const options *o, double seconds, int size, int window, double rate);

double process_cpu(long pid);
long process_rss(long pid);

#endif
