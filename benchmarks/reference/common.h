/* The reference: what plain C can do with the same libssl. Nothing here knows of dtlsffi.
 */
#ifndef REFERENCE_COMMON_H
#define REFERENCE_COMMON_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define CIPHER "ECDHE-ECDSA-AES128-GCM-SHA256"
#define PSK_CIPHER "PSK-AES128-GCM-SHA256"
#define MTU 1400
#define HOST "device.example"
#define BATCH 64                /* datagrams in one recvmmsg or sendmmsg */
#define BUFFER_SIZE (8 << 20)   /* of sockets, where root may have it */
#define DATAGRAM_MAX 65536

/* ---- common.c ---- */

typedef struct {
    const char *cert;
    const char *key;
    const char *ca;
    const char *mode;     /* plain, mmsg, gso; or full, resumed, psk */
    const char *address;
    int port;
    int size;
    int count;
    int batch;
    long pid;
    double seconds;
    bool release;         /* SSL_free_buffers on idle connections */
    bool pktinfo;         /* answer from the address that was asked, as a server on 0.0.0.0 has to */
} options;

void options_read(options *o, int argc, char **argv);
double now(void);
uint64_t nanoseconds(void);
_Noreturn void die(const char *what);
SSL_CTX *context_make(const options *o, bool server, bool psk);
int order_u64(const void *a, const void *b);
uint64_t percentile(uint64_t *sorted, size_t count, double share);

/* ---- wire.c: a BIO that keeps datagrams apart ---- */

typedef struct {
    uint8_t *data;
    size_t used;
    size_t size;
    uint32_t *length;
    uint32_t count;
    uint32_t room;
} outbox;

typedef struct {
    const uint8_t *in;
    size_t in_length;
    outbox *out;
} wire;

void outbox_make(outbox *out, size_t size, uint32_t room);
void outbox_clear(outbox *out);
BIO *wire_bio(wire *w);
SSL *wire_ssl(SSL_CTX *context, wire *w, bool server);
void wire_carry(SSL *to, wire *w, outbox *from);
void wire_shake_hands(SSL *client, wire *client_wire, SSL *server, wire *server_wire);

/* ---- udp.c ---- */

int udp_socket(const char *address, int port);
int udp_port(int fd);
SSL *udp_accept(SSL_CTX *context, int fd);
SSL *udp_connect(SSL_CTX *context, int fd, int port);
void udp_send_mmsg(int fd, const outbox *out);
void udp_send_gso(int fd, const outbox *out);

typedef struct {
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    uint8_t controls[BATCH][64];
    uint8_t *room;
    size_t room_each;
    int count;
} intake;

void intake_make(intake *in, int count, size_t room_each);
int intake_take(intake *in, int fd, int flags);
size_t intake_segment(intake *in, int index);

/* ---- roles: each prints one line of JSON ---- */

int role_record(const options *o);
int role_handshake(const options *o);
int role_oneway_receive(const options *o);
int role_oneway_send(const options *o);
int role_pingpong_serve(const options *o);
int role_pingpong(const options *o);
int role_echo(const options *o);
int role_load(const options *o);
int role_flood(const options *o);

#endif
