/* What the C files know of one another, and Python does not: the second half of core.h, which includes it. */
#ifndef DTLSFFI_INSIDE_H
#define DTLSFFI_INSIDE_H

#include "core.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

/* Counts where more than one thread may. */
#define DTLSFFI_COUNT(counter, by) ((void)__atomic_fetch_add(&(counter), (by), __ATOMIC_RELAXED))

/* The same in a connection's statistics, and in those of its port, where it has one. */
#define DTLSFFI_COUNT_BOTH(conn, counter, by) \
    do { \
        (conn)->stats.counter += (by); \
        if ((conn)->port != NULL) \
            DTLSFFI_COUNT((conn)->port->counter, (by)); \
    } while (0)

/* Whether a call of a socket's has failed only since it does not wait. */
static inline bool dtlsffi_would_block(int number)
{
    return number == EAGAIN || number == EWOULDBLOCK;
}

#define ERRORS_AT_MOST 64

/* For a socket on which nothing has come: what it tells besides, unread, would wake whoever waits for datagrams again
 * and again. Returns 0. */
static inline int dtlsffi_clear_error_queue(int fd)
{
    for (int i = 0; i < ERRORS_AT_MOST && dtlsffi_read_error_queue(fd) >= 0; i++)
        continue;
    return 0;
}

/* OpenSSL calls a timer run out 15 ms early (d1_lib.c: dtls1_get_timeout). Ours are longer by as much. */
#define DTLSFFI_TIMER_SLACK 15000

/* OpenSSL gathers a flight in a buffer BIO of this size; a larger datagram would leave it in two pieces, each half a
 * record (bf_buff.c). No flight gains from larger datagrams anyway. */
#define DTLSFFI_FLIGHT_MAX 4096

/* What remains of an MTU that two flights in a row have not survived: 576 bytes of IPv4 less its headers, which is also
 * what OpenSSL's own BIO answers (bss_dgram.c). */
#define DTLSFFI_MTU_FALLBACK 548

/* lock.c: may be taken again by the thread that holds it; whoever waits for it has let go of the GIL */
typedef struct {
    _Atomic(uintptr_t) owner;   /* a thread, or 0 */
    _Atomic(unsigned) waiting;  /* other threads */
    unsigned depth;
    pthread_mutex_t mutex;      /* of those who wait */
    pthread_cond_t released;
} dtlsffi_lock;

bool dtlsffi_lock_init(dtlsffi_lock *lock);
void dtlsffi_lock_destroy(dtlsffi_lock *lock);
unsigned dtlsffi_lock_take(dtlsffi_lock *lock);
bool dtlsffi_lock_try(dtlsffi_lock *lock);
void dtlsffi_lock_release(dtlsffi_lock *lock);

/* gil.c */
void *dtlsffi_gil_release(void);
void dtlsffi_gil_retake(void *token);
bool dtlsffi_gil_is_main(void);
void *dtlsffi_gil_release_for(uint32_t records);
void dtlsffi_gil_retake_after(void *token);
bool dtlsffi_gil_home(void);
void dtlsffi_gil_away(bool away);

/* udp.c */
typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} dtlsffi_sockaddr;

typedef union {
    struct cmsghdr header;
    uint8_t room[192]; /* for both addresses and a size 96; the rest for timestamps that its owner may have asked for */
} dtlsffi_control;

const uint8_t *dtlsffi_batch_look(dtlsffi_batch *batch, uint32_t *length);
const uint8_t *dtlsffi_batch_next(dtlsffi_batch *batch, uint32_t *length);
bool dtlsffi_udp_address(const dtlsffi_udp *udp, struct msghdr *message, const dtlsffi_address *to,
                         const dtlsffi_address *local, dtlsffi_sockaddr *name, dtlsffi_control *space);
void dtlsffi_control_add(struct msghdr *message, dtlsffi_control *space, int level, int type, const void *value,
                         size_t length);
void dtlsffi_udp_may_fragment(dtlsffi_udp *udp);
dtlsffi_sockaddr dtlsffi_udp_own_address(int fd);
bool dtlsffi_udp_refuses_source(int number);

/* scratch.c: memory for the time of a call */
#define DTLSFFI_SPARE 4
typedef struct {
    size_t size;
    _Atomic(void *) spare[DTLSFFI_SPARE];
} dtlsffi_scratch;

void *dtlsffi_scratch_lend(dtlsffi_scratch *scratch);
void dtlsffi_scratch_give_back(dtlsffi_scratch *scratch, void *piece);

/* Somebody's memory. */
typedef struct {
    const uint8_t *data;
    size_t length;
} dtlsffi_span;

/* Where a record goes: `size` bytes, of which it may take no more than `limit`. */
typedef struct {
    uint8_t *data;
    size_t size;
    size_t limit;
} dtlsffi_room;

/* Plaintext on its way to Python: `count` records of `length[i]` bytes, one behind the other in `data`. There is room
 * for all that one datagram can hold, whatever its records' size, and for one record more: of a datagram that had to
 * wait, what OpenSSL has not read yet would be lost. Where records come from many connections, `owner[i]` says which,
 * and `odd` lists those to which something else than data has happened. */
#define DTLSFFI_INBOX_RECORDS 3072
#define DTLSFFI_INBOX_BYTES 81920
#define DTLSFFI_INBOX_ODD 256
#define DTLSFFI_PLACED 0x80000000U /* added to the length of a record that went to a place of its own */
#define DTLSFFI_MORE 0x10000      /* added to a count: call again, with no data, for the rest */
typedef struct {
    uint32_t count;
    uint32_t used;
    uint32_t odd_count;
    uint8_t *place;               /* where the next record goes, and not into `data`, or NULL */
    size_t place_size;            /* as long as it can be */
    bool placed;                  /* it has gone there */
    bool more;                    /* whether there was no room for all of a batch */
    uint32_t odd[DTLSFFI_INBOX_ODD];
    uint32_t owner[DTLSFFI_INBOX_RECORDS];
    uint32_t length[DTLSFFI_INBOX_RECORDS];
    uint8_t data[DTLSFFI_INBOX_BYTES];
} dtlsffi_inbox;

/* outgoing.c: records on their way out by the batch */
#define DTLSFFI_OUTGOING 1024
#define DTLSFFI_OUTGOING_BYTES 262144
#define DTLSFFI_DATAGRAM_MAX 16896      /* one record of the largest size */
typedef struct {
    uint32_t count;
    uint32_t used;
    int answer;                         /* what has stopped it, or 0 */
    uint32_t start[DTLSFFI_OUTGOING];
    uint32_t length[DTLSFFI_OUTGOING];
    uint32_t item[DTLSFFI_OUTGOING];    /* which of those to be sent it is */
    dtlsffi_address to[DTLSFFI_OUTGOING];
    dtlsffi_address from[DTLSFFI_OUTGOING];
    uint8_t data[DTLSFFI_OUTGOING_BYTES];
} dtlsffi_outgoing;

uint32_t dtlsffi_conn_send_many(dtlsffi_conn *conn, dtlsffi_udp *udp, const dtlsffi_span *spans, uint32_t count,
                                dtlsffi_outgoing *out);
uint32_t dtlsffi_endpoint_send_many(dtlsffi_conn **conns, dtlsffi_udp *udp, const dtlsffi_span *spans, uint32_t count,
                                    dtlsffi_outgoing *out);
int dtlsffi_conn_send_all(dtlsffi_conn *conn, const dtlsffi_span *spans, uint32_t count);
bool dtlsffi_outgoing_append(dtlsffi_outgoing *out, const dtlsffi_conn *conn, const uint8_t *data, size_t length);

/* outbox.c: datagrams on their way to the wire, one behind the other */
typedef struct {
    size_t count;
    size_t used;
    uint32_t *length;
    uint8_t *data;
    size_t count_room;
    size_t data_room;
} dtlsffi_outbox;

bool dtlsffi_outbox_reserve(dtlsffi_outbox *box, size_t count, size_t bytes);
bool dtlsffi_outbox_append(dtlsffi_outbox *box, const uint8_t *data, size_t length);
void dtlsffi_outbox_empty(dtlsffi_outbox *box);
void dtlsffi_outbox_clear(dtlsffi_outbox *box);

/* records.c: what can be seen of records without their keys */
#define DTLSFFI_RECORD_HEADER 13
#define DTLSFFI_ALERT_RECORD 15 /* a plaintext alert: header, level, description */
#define DTLSFFI_WATCHED 32
#define DTLSFFI_SHORTEST 24 /* the longest nonce and tag of any AEAD; a Finished has 24 bytes more */

typedef struct {
    uint64_t top;                       /* epoch and sequence number of the newest record delivered */
    uint64_t seen;                      /* bit i: record top - i was delivered */
    uint64_t fed;                       /* the record that OpenSSL is reading just now */
    uint64_t *fed_more;                 /* and those behind it in the same datagram, if there are any */
    uint32_t fed_count;
    uint32_t delivered;                 /* how many of them came out as plaintext */
} dtlsffi_watch;

size_t dtlsffi_record_length(const uint8_t *data, size_t length);
bool dtlsffi_seems_hello(const uint8_t *data, size_t length);
size_t dtlsffi_records_shortest(SSL *ssl);
size_t dtlsffi_records_accept_untrusted(dtlsffi_conn *conn, uint8_t *data, size_t length);
void dtlsffi_records_settle(dtlsffi_conn *conn);
void dtlsffi_records_unwatch(dtlsffi_watch *watch);

/* tickets.c */
typedef struct {
    CRYPTO_RWLOCK *lock;
    uint8_t *keys;
    size_t count;
} dtlsffi_tickets;

bool dtlsffi_tickets_init(dtlsffi_tickets *tickets);
void dtlsffi_tickets_free(dtlsffi_tickets *tickets);

/* timer.c */
typedef struct {
    uint32_t initial;           /* microseconds */
    uint32_t cap;
    double back_off;
} dtlsffi_timers;

int64_t dtlsffi_nanoseconds(void);
unsigned int dtlsffi_timer_next(SSL *ssl, unsigned int previous);
int64_t dtlsffi_timer_left(dtlsffi_conn *conn);

/* context.c */
typedef struct {
    pthread_mutex_t removed_lock;
    uint8_t *removed;           /* ids of sessions that are not to be resumed, each behind its length */
    size_t removed_length;
    uint8_t *protocols;         /* ALPN, as on the wire */
    size_t protocols_length;
    dtlsffi_tickets tickets;
    bool asks;                  /* whether anything is for Python to answer or to be told, in a handshake */
    bool watched;               /* and whether it wants to hear of sessions that end, which it then asks for */

    /* what its connections begin with */
    uint8_t rules[DTLSFFI_RULES];
    size_t mtu;                 /* 0: none is set */
    dtlsffi_timers timers;
} dtlsffi_ctx_data;

bool dtlsffi_ctx_init(void);
dtlsffi_ctx_data *dtlsffi_ctx_get_data(const SSL_CTX *ctx);
void dtlsffi_ctx_note_removed(SSL_CTX *ctx, const uint8_t *id, size_t length);

/* conn.c. There is one for each peer that says nothing, so what is small stands together: no room is lost between.
 * And of ten thousand each has to be fetched when its peer says something: what every record looks at stands
 * together, too, up to DTLSFFI_CONN_HOT. */
struct dtlsffi_conn {
    SSL *ssl;
    dtlsffi_ctx_data *ctx_data; /* what the context it began with carries of ours */
    unsigned long born;         /* dtlsffi_fork_count at birth */

    /* what has become of it */
    bool established;           /* the handshake is finished */
    bool aead;                  /* a record is longer than its plaintext by `shortest`, and its header */
    bool drained;               /* OpenSSL has handed out all that it kept of what came before it was established */
    bool failed;                /* OpenSSL will not go on with this SSL */
    bool shut;                  /* we have sent close_notify */
    bool pinned;                /* the peer has to show a certificate or raw key; not its chain decides */
    bool distrusted;            /* what the peer has shown was, by whoever is asked about certificates */
    bool proven;                /* its cookie has been checked: what OpenSSL asks for */
    bool abandoned;             /* closed within one of its own callbacks */
    bool warm;                  /* OpenSSL's buffers may be allocated: it is in its table's list of those */
    bool cold;                  /* they have been given back */
    bool greeted;               /* the client's hello has come; */
    uint16_t hello_number;      /* among its messages it is this one */
    bool refused;               /* we have said no_renegotiation */
    bool unconfirmed;           /* our flight was the last, and nobody has told yet that it has come */

    /* what it is at just now */
    bool sending;               /* an application record, or close_notify, is on its way through the BIO */
    bool parting;               /* and it is close_notify */
    bool repeating;             /* its timer has run out: a flight is being sent again */
    bool alone;                 /* what OpenSSL has read last is one record, and nothing behind it */
    bool fed;                   /* datagrams come by hand just now, though there is a socket of our own */
    bool detached;              /* there was a socket, and it is gone */
    bool ipv6;
    bool local_socket;          /* AF_UNIX, which knows no MSG_ERRQUEUE: it would give the next datagram */
    bool alert_is_held;
    bool alert_is_released;
    uint8_t allowed;            /* DTLSFFI_MAY_...: what the methods of its DTLSSocket need not ask for */
    uint8_t lulls;              /* calls of its recv() and recv_into() that are to wait before they look */
    int version;                /* that is spoken; 0 before the handshake is finished */
    int events;
    int events_seen;            /* by an endpoint, and not yet by whoever asks its connection */
    int reads;                  /* datagrams that this call has asked the socket for */
    int io_errno;               /* what the BIO met in this call */
    void *gil;                  /* of the thread that is in, and has let go of it until it leaves; or NULL */
    int fd;                     /* the carrier: a connected socket, or -1 */
    dtlsffi_udp *udp;           /* or one that is shared with others, and datagrams come by hand; or NULL for memory */
    dtlsffi_outgoing *gathered; /* where datagrams go while a batch is made */
    const uint8_t *in;          /* one datagram to be read before the carrier is asked */
    size_t in_length;
    size_t data_mtu;            /* plaintext that fits in one datagram; 0 before the handshake */
    size_t shortest;            /* the shortest encrypted fragment there can be */

    /* behind a shared socket */
    dtlsffi_address address;    /* the peer's */
    dtlsffi_address local;      /* ours, to which it has sent */
    double last_seen;           /* when it has sent, by the endpoint's clock */
    dtlsffi_table *table;       /* that it is in, or NULL */
    dtlsffi_conn *warmer, *cooler;  /* its neighbours in the list of the warm */

    dtlsffi_watch watch;
    dtlsffi_stats stats;
    dtlsffi_lock lock;

    /* what few records look at, if any */
    void *handle;               /* Python's object for the callbacks, or NULL */
    SSL_CTX *ctx;               /* the one it began with, where its session and tickets belong; the SSL holds it */
    dtlsffi_outbox out;
    uint8_t *packed;            /* records of a flight that is sent again, for one datagram; or NULL */
    size_t packed_length;
    uint8_t *held_record;       /* a record larger than the buffer it was asked into */
    size_t held_record_length;
    size_t mtu;                 /* UDP payload ceiling; 0: ask the kernel */
    size_t flight_mtu;          /* the same for handshake datagrams, which falls when flights get lost */
    int64_t patience;           /* microseconds after which the kernel ends recv(2); 0: never */
    int waiting;                /* threads that wait in recv(2) */
    dtlsffi_fault *fault;       /* what has ended it, if anything has */
    dtlsffi_udp *port;          /* in whose statistics it counts, too; or NULL */
    int unsent_errno;           /* why the kernel did not take the last datagram that it did not, or 0 */
    int alert_received;         /* description, or -1 */
    dtlsffi_timers timers;
    uint32_t timer_current;     /* microseconds */
    unsigned repeats;           /* how often the present flight's timer has run out */
    unsigned verify_requests;   /* HelloVerifyRequests so far */
    uint64_t cookie_taken;      /* the hash of the last one's cookie */
    uint8_t held_alert[DTLSFFI_ALERT_RECORD];
};

#define DTLSFFI_CONN_HOT offsetof(dtlsffi_conn, lock.mutex)

/* What is left of a datagram that may have been longer than its room: one record is not, several may be. */
static inline size_t dtlsffi_conn_kept(dtlsffi_conn *conn, size_t length, size_t room)
{
    if (length <= room)
        return length;
    DTLSFFI_COUNT_BOTH(conn, dropped_junk, 1);
    return room;
}

/* module.c */
extern unsigned long dtlsffi_fork_count;

/* Whether what was born after so many forks is the parent's, and none of this process's to touch. */
static inline bool dtlsffi_is_parents(unsigned long born)
{
    return born != dtlsffi_fork_count;
}

/* conn.c */
void dtlsffi_conn_free(dtlsffi_conn *conn);
int dtlsffi_conn_enter(dtlsffi_conn *conn);
void dtlsffi_conn_leave(dtlsffi_conn *conn);
int dtlsffi_conn_result(dtlsffi_conn *conn, int ret);
int dtlsffi_conn_newest(const dtlsffi_conn *conn, int asked);
int dtlsffi_conn_fail(dtlsffi_conn *conn);
void dtlsffi_conn_drop_held_record(dtlsffi_conn *conn);
bool dtlsffi_conn_cool(dtlsffi_conn *conn);

/* handshake.c */
void dtlsffi_ctx_set_cookies(SSL_CTX *ctx);
int dtlsffi_conn_step(dtlsffi_conn *conn);
int dtlsffi_conn_finish_others(dtlsffi_conn *conn);

/* flow.c */
bool dtlsffi_inbox_has_room_for(const dtlsffi_inbox *inbox, size_t length);
int dtlsffi_conn_receive_entered(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_inbox *inbox);
int dtlsffi_conn_receive_more(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_inbox *inbox);
int dtlsffi_conn_read_entered(dtlsffi_conn *conn, uint8_t *buffer, size_t size, size_t limit);
int dtlsffi_conn_send(dtlsffi_conn *conn, const uint8_t *data, size_t length);
int dtlsffi_conn_send_entered(dtlsffi_conn *conn, const uint8_t *data, size_t length);
int dtlsffi_conn_seal(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_outgoing *out);
void dtlsffi_conn_say_goodbye(dtlsffi_conn *conn);
int dtlsffi_conn_why_failed(const dtlsffi_conn *conn);

/* wait.c: the one call that waits */
void dtlsffi_conn_take_datagram(dtlsffi_conn *conn);
int dtlsffi_conn_wait(dtlsffi_conn *conn, int64_t microseconds, dtlsffi_inbox *inbox, const dtlsffi_room *room);
void dtlsffi_conn_lose_patience(dtlsffi_conn *conn);

/* table.c */
void dtlsffi_table_warm(dtlsffi_conn *conn);
int dtlsffi_table_receive(const dtlsffi_table *table, dtlsffi_udp *udp, dtlsffi_batch *batch);
void dtlsffi_table_harvest(dtlsffi_table *table, dtlsffi_udp *udp, dtlsffi_batch *batch, dtlsffi_inbox *inbox,
                           double now);

/* datagram_bio.c */
bool dtlsffi_datagram_bio_init(void);
BIO *dtlsffi_datagram_bio_new(dtlsffi_conn *conn);
void dtlsffi_conn_send_packed(dtlsffi_conn *conn);
void dtlsffi_conn_hear(dtlsffi_conn *conn, int number);

/* mtu.c */
size_t dtlsffi_mtu_overhead(const dtlsffi_conn *conn);
size_t dtlsffi_mtu_fall_back(dtlsffi_conn *conn);
void dtlsffi_mtu_follow(dtlsffi_conn *conn);
void dtlsffi_mtu_refresh(dtlsffi_conn *conn);

/* fault.c */
int dtlsffi_fault_system(int errno_value);

/* The trampolines: the only way from C to Python. They are defined in core/callbacks.py. */
void dtlsffi_on_keylog(void *handle, const char *line);
void dtlsffi_on_trace(void *handle, int sent, int version, int content, int what, size_t length);
unsigned int dtlsffi_on_psk_client(void *handle, const char *hint, char *identity, unsigned int identity_room,
                                   unsigned char *key, unsigned int room);
unsigned int dtlsffi_on_psk_server(void *handle, const char *identity, unsigned char *key, unsigned int room);
int dtlsffi_on_server_name(void *handle, const uint8_t *name, size_t length);
int dtlsffi_on_certificate(void *handle, int ok, X509_STORE_CTX *store);
int dtlsffi_on_status(void *handle);
void dtlsffi_on_session_new(void *handle, SSL_SESSION *session);
SSL_SESSION *dtlsffi_on_session_get(void *handle, const unsigned char *id, int length);

#endif
