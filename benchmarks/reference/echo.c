/* An echo server for any number of peers on one port: a hash table by address, recvmmsg in, sendmmsg out. A peer is kept
 * only once its cookie has come back (DTLSv1_listen), as in any server that faces the world.
 */
#include "common.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS 32768U
#define BATCHES 4 /* taken before the clock is looked at */
#define COOKIE 32

typedef struct peer {
    struct sockaddr_in address;
    struct in_pktinfo asked;
    wire wire;
    SSL *ssl;
    struct peer *next_in_bucket;
    struct peer *next;
    struct peer *previous;
} peer;

typedef union {
    struct cmsghdr header;
    uint8_t room[CMSG_SPACE(sizeof(struct in_pktinfo))];
} control;

static struct {
    int fd;
    bool release;
    bool pktinfo;
    SSL_CTX *context;
    intake in;
    struct sockaddr_in from[BATCH];
    outbox out;
    peer *buckets[BUCKETS];
    peer all; /* the head of a ring */
    peer *spare;
    peer *destination[4 * BATCH];
    long count;
    uint8_t secret[32];
    uint8_t record[DATAGRAM_MAX];
} s;

/* ---- cookies ---- */

static int cookie_make(SSL *ssl, unsigned char *cookie, unsigned int *length)
{
    const peer *p = SSL_get_app_data(ssl);
    uint8_t text[6];

    memcpy(text, &p->address.sin_addr, 4);
    memcpy(text + 4, &p->address.sin_port, 2);
    return HMAC(EVP_sha256(), s.secret, sizeof(s.secret), text, sizeof(text), cookie, length) != NULL;
}

static int cookie_check(SSL *ssl, const unsigned char *cookie, unsigned int length)
{
    uint8_t right[EVP_MAX_MD_SIZE];
    unsigned int right_length = sizeof(right);

    return cookie_make(ssl, right, &right_length) && length == right_length && CRYPTO_memcmp(cookie, right, length) == 0;
}

/* ---- peers ---- */

static unsigned int bucket(const struct sockaddr_in *address)
{
    uint64_t key = ((uint64_t)address->sin_addr.s_addr << 16) | address->sin_port;

    return (unsigned int)((key * 0x9E3779B97F4A7C15U) >> 49) % BUCKETS;
}

static peer *find(const struct sockaddr_in *address)
{
    peer *p = s.buckets[bucket(address)];

    while (p != NULL && (p->address.sin_addr.s_addr != address->sin_addr.s_addr ||
                         p->address.sin_port != address->sin_port))
        p = p->next_in_bucket;
    return p;
}

static peer *make_spare(void)
{
    peer *p = calloc(1, sizeof(*p));

    if (p == NULL)
        die("peer");
    p->wire.out = &s.out;
    p->ssl = wire_ssl(s.context, &p->wire, true);
    SSL_set_app_data(p->ssl, p);
    return p;
}

static void keep(peer *p)
{
    peer **place = &s.buckets[bucket(&p->address)];

    p->next_in_bucket = *place;
    *place = p;
    p->next = &s.all;
    p->previous = s.all.previous;
    p->previous->next = p;
    s.all.previous = p;
    s.count++;
}

static void forget(peer *p)
{
    peer **place = &s.buckets[bucket(&p->address)];

    while (*place != p)
        place = &(*place)->next_in_bucket;
    *place = p->next_in_bucket;
    p->previous->next = p->next;
    p->next->previous = p->previous;
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(p->ssl);
    free(p);
    s.count--;
}

/* ---- what goes out ---- */

static void flush_out(void)
{
    struct mmsghdr messages[4 * BATCH];
    struct iovec pieces[4 * BATCH];
    static control controls[4 * BATCH];
    uint8_t *data = s.out.data;
    unsigned int done = 0;

    for (uint32_t i = 0; i < s.out.count; i++) {
        peer *to = s.destination[i];

        pieces[i] = (struct iovec){.iov_base = data, .iov_len = s.out.length[i]};
        data += s.out.length[i];
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &to->address,
                                                   .msg_namelen = sizeof(to->address),
                                                   .msg_iov = &pieces[i],
                                                   .msg_iovlen = 1}};
        if (s.pktinfo) {
            struct in_pktinfo info = {.ipi_spec_dst = to->asked.ipi_spec_dst};

            controls[i].header = (struct cmsghdr){
                .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof(info))};
            memcpy(CMSG_DATA(&controls[i].header), &info, sizeof(info));
            messages[i].msg_hdr.msg_control = &controls[i];
            messages[i].msg_hdr.msg_controllen = sizeof(controls[i]);
        }
    }
    while (done < s.out.count) {
        int sent = sendmmsg(s.fd, messages + done, s.out.count - done, 0);

        if (sent < 0 && errno != EINTR)
            sent = 1; /* a datagram that the kernel would not take is lost */
        done += sent > 0 ? (unsigned int)sent : 0;
    }
    outbox_clear(&s.out);
}

/* Whatever a peer's SSL has put into the outbox goes to that peer. */
static void address_new(peer *p, uint32_t before)
{
    for (uint32_t i = before; i < s.out.count; i++)
        s.destination[i] = p;
}

/* ---- what comes in ---- */

static void listen_untrusted(const struct sockaddr_in *from, const struct in_pktinfo *asked, const uint8_t *data,
                             size_t length)
{
    static BIO_ADDR *nobody;
    uint32_t before = s.out.count;
    peer *p = s.spare;

    if (length < 14 || data[0] != SSL3_RT_HANDSHAKE || data[13] != SSL3_MT_CLIENT_HELLO)
        return;
    if (nobody == NULL)
        nobody = BIO_ADDR_new();
    p->address = *from;
    p->asked = *asked;
    p->wire.in = data;
    p->wire.in_length = length;
    if (DTLSv1_listen(p->ssl, nobody) == 1) {
        keep(p);
        (void)SSL_accept(p->ssl);
        s.spare = make_spare();
        address_new(p, before);
    } else {
        address_new(p, before);
        flush_out(); /* the spare is about to have another address */
    }
    ERR_clear_error();
}

static void handle(peer *p, const uint8_t *data, size_t length)
{
    uint32_t before = s.out.count;
    int got;

    p->wire.in = data;
    p->wire.in_length = length;
    got = SSL_read(p->ssl, s.record, sizeof(s.record));
    if (got > 0)
        (void)SSL_write(p->ssl, s.record, got);
    address_new(p, before);
    if (got <= 0) {
        int why = SSL_get_error(p->ssl, got);

        ERR_clear_error();
        if (why == SSL_ERROR_ZERO_RETURN || why == SSL_ERROR_SSL) {
            flush_out();
            before = s.out.count;
            (void)SSL_shutdown(p->ssl);
            address_new(p, before);
            flush_out();
            forget(p);
            return;
        }
    }
    if (s.release && SSL_is_init_finished(p->ssl))
        (void)SSL_free_buffers(p->ssl); /* the next SSL_read makes new ones; SSL_write does not */
}

static void find_asked(struct msghdr *message, struct in_pktinfo *asked)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            memcpy(asked, CMSG_DATA(c), sizeof(*asked));
    }
}

static int take_batch(void)
{
    int count;

    for (int i = 0; i < BATCH; i++) {
        s.in.messages[i].msg_hdr.msg_name = &s.from[i];
        s.in.messages[i].msg_hdr.msg_namelen = sizeof(s.from[i]);
    }
    count = intake_take(&s.in, s.fd, MSG_DONTWAIT);
    for (int i = 0; i < count; i++) {
        struct in_pktinfo asked = {0};
        peer *p = find(&s.from[i]);

        if (s.pktinfo)
            find_asked(&s.in.messages[i].msg_hdr, &asked);
        if (s.out.count > 3 * BATCH)
            flush_out();
        if (p == NULL)
            listen_untrusted(&s.from[i], &asked, s.in.pieces[i].iov_base, s.in.messages[i].msg_len);
        else
            handle(p, s.in.pieces[i].iov_base, s.in.messages[i].msg_len);
    }
    flush_out();
    return count;
}

/* ---- time ---- */

/* Flights are sent again. */
static void look_after(void)
{
    for (peer *p = s.all.next; p != &s.all; p = p->next) {
        if (!SSL_is_init_finished(p->ssl)) {
            uint32_t before = s.out.count;

            (void)DTLSv1_handle_timeout(p->ssl);
            address_new(p, before);
            flush_out();
        }
    }
    ERR_clear_error();
}

int role_echo(const options *o)
{
    struct pollfd waiting[2];
    double next = 0;
    int on = 1;

    s.fd = udp_socket(o->address, o->port);
    s.release = o->release;
    s.pktinfo = o->pktinfo;
    s.all.next = s.all.previous = &s.all;
    if (s.pktinfo)
        setsockopt(s.fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
    RAND_bytes(s.secret, sizeof(s.secret));
    s.context = context_make(o, true, strcmp(o->mode, "psk") == 0);
    SSL_CTX_set_options(s.context, SSL_OP_COOKIE_EXCHANGE);
    SSL_CTX_set_cookie_generate_cb(s.context, cookie_make);
    SSL_CTX_set_cookie_verify_cb(s.context, cookie_check);
    outbox_make(&s.out, 4 << 20, 4 * BATCH);
    intake_make(&s.in, BATCH, 17000);
    s.spare = make_spare();
    waiting[0] = (struct pollfd){.fd = s.fd, .events = POLLIN};
    waiting[1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    printf("{\"port\": %d, \"pid\": %d}\n", udp_port(s.fd), (int)getpid());
    fflush(stdout);
    for (;;) {
        poll(waiting, 2, 100);
        if (waiting[1].revents != 0)
            return 0; /* its parent has closed the pipe */
        for (int i = 0; i < BATCHES && take_batch() == BATCH; i++)
            ;
        if (now() >= next) {
            next = now() + 0.1;
            look_after();
        }
    }
}
