/* dtlsffi's own C: its structures and prototypes.
 *
 * The part between the two CDEF lines is declared once and read twice: by the compiler here, and by build_ffi.py,
 * which hands it to cffi. It is what Python sees; what stands after it, only the C files see.
 */
#ifndef DTLSFFI_CORE_H
#define DTLSFFI_CORE_H

#include "compat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CDEF BEGIN */

/* What a call on a connection answers when it is not a count: always negative. */
enum dtlsffi_answer {
    DTLSFFI_WANT_READ = -1,  /* nothing to report until a datagram or the timer comes */
    DTLSFFI_WANT_WRITE = -2, /* the socket's send buffer is full; nothing was sent */
    DTLSFFI_CLOSED = -3,     /* the peer's close_notify */
    DTLSFFI_FAULT = -4,      /* see dtlsffi_fault_last() */
    DTLSFFI_FAILED = -5,     /* the connection failed in an earlier call */
    DTLSFFI_SHUT = -6,       /* we have sent our own close_notify */
    DTLSFFI_NOT_READY = -7,  /* the handshake is not finished */
    DTLSFFI_TOO_LARGE = -8,  /* larger than one datagram may be, or than the caller's buffer */
    DTLSFFI_FORKED = -9,     /* the connection belongs to the parent of this process */
    DTLSFFI_REENTERED = -10, /* called from within a callback of the same connection */
};

#define DTLSFFI_RECORD_MAX 16384  /* the largest plaintext of one record: RFC 6347 section 4.1 */
#define DTLSFFI_MTU_MIN 208       /* OpenSSL's floor for a UDP payload: SSL_set_mtu */
#define DTLSFFI_MTU_MAX 65527     /* the largest payload a UDP header can name */
#define DTLSFFI_MTU_DEFAULT 1200  /* what any path carries nowadays: RFC 9000 section 14 */

/* Why a call failed, taken down in the very call and thread that failed. */
typedef struct {
    int errno_value;        /* of the system call that failed, or 0 */
    int library;            /* OpenSSL's library number, or 0 */
    int reason;             /* its reason code, or 0 */
    long verify_code;       /* X509_V_OK or X509_V_ERR_... */
    char library_name[48];  /* "SSL routines" */
    char reason_text[128];  /* "certificate verify failed" */
    char detail[256];       /* what OpenSSL adds to the error, or "" */
} dtlsffi_fault;

/* Counters of one connection. */
typedef struct {
    uint64_t datagrams_received;
    uint64_t datagrams_sent;
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t records_received;          /* application records handed out */
    uint64_t records_sent;              /* application records sent */
    uint64_t flights_retransmitted;     /* because our timer ran out */
    uint64_t dropped_junk;              /* datagrams that hold no DTLS record at all */
    uint64_t dropped_replayed;          /* records seen before, or older than the window */
    uint64_t dropped_unauthenticated;   /* records whose MAC did not fit, as far as can be seen */
    uint64_t dropped_unsent;            /* datagrams the kernel would not take during a handshake */
    uint64_t alerts_held;               /* plaintext alerts held back until the timer ran out */
} dtlsffi_stats;

/* Plaintext on its way to Python: `count` records of `length[i]` bytes, one behind the other in `data`. There is room
 * for all that one datagram can hold, whatever its records' size, and for one record more. */
#define DTLSFFI_INBOX_RECORDS 2304
#define DTLSFFI_INBOX_BYTES 81920
#define DTLSFFI_MORE 0x10000      /* added to a count: call again, with no data, for the rest */
typedef struct {
    uint32_t count;
    uint32_t used;
    uint32_t length[DTLSFFI_INBOX_RECORDS];
    uint8_t data[DTLSFFI_INBOX_BYTES];
} dtlsffi_inbox;

/* Datagrams on their way to the wire, likewise. */
typedef struct {
    size_t count;
    size_t used;
    uint32_t *length;
    uint8_t *data;
    size_t count_room;
    size_t data_room;
} dtlsffi_outbox;

/* What happened on a connection beside its data: bits of dtlsffi_conn_events(). */
#define DTLSFFI_EVENT_ESTABLISHED 1
#define DTLSFFI_EVENT_ALERT 2
#define DTLSFFI_EVENT_CLOSED 4
#define DTLSFFI_EVENT_MTU 8

typedef struct dtlsffi_conn dtlsffi_conn;

/* module.c */
int dtlsffi_module_init(void);

/* fault.c */
dtlsffi_fault *dtlsffi_fault_last(void);
void dtlsffi_fault_take(void);

/* udp.c: a peer's address in one form, whatever the socket: IPv4 also where it is mapped into IPv6, in the first 4 bytes */
typedef struct {
    uint8_t ip[16];
    uint8_t port[2];                    /* network order */
    uint8_t family;                     /* 4 or 6; 0: unknown */
    uint8_t zero;
    uint32_t scope;                     /* of a link-local IPv6 address: its interface */
} dtlsffi_address;

#define DTLSFFI_BATCH 32
#define DTLSFFI_DATAGRAM_MAX 16896      /* one record of the largest size, and its handshake's small ones beside it */
typedef struct {
    uint32_t length[DTLSFFI_BATCH];     /* 0: cut, or of no family known */
    dtlsffi_address senders[DTLSFFI_BATCH];
    dtlsffi_address receivers[DTLSFFI_BATCH];   /* which of our own addresses they were sent to */
    uint8_t data[DTLSFFI_BATCH][DTLSFFI_DATAGRAM_MAX];
} dtlsffi_batch;

void dtlsffi_udp_prepare(int fd);
int dtlsffi_udp_receive(int fd, dtlsffi_batch *batch);
int dtlsffi_udp_send(int fd, int v6_socket, const dtlsffi_address *to, const dtlsffi_address *local,
                     const uint8_t *data, size_t length);

/* cookie.c */
#define DTLSFFI_COOKIE 32
#define DTLSFFI_HELLO_VERIFY_REQUEST 60
typedef struct dtlsffi_cookie_jar dtlsffi_cookie_jar;
enum dtlsffi_hello {
    DTLSFFI_HELLO_NONE = 0,             /* no ClientHello, or one not to be answered */
    DTLSFFI_HELLO_PROVEN = -1,          /* whole, with a cookie of ours */
    DTLSFFI_HELLO_FRAGMENT = -2,        /* the first fragment of one, or a later one */
    DTLSFFI_HELLO_UNPROVEN = -3,        /* whole, without a cookie, and no answer was asked for */
};
dtlsffi_cookie_jar *dtlsffi_cookie_jar_new(const uint8_t *secret, size_t length);
void dtlsffi_cookie_jar_free(dtlsffi_cookie_jar *jar);
int dtlsffi_hello_look_untrusted(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *data,
                                 size_t length, uint8_t *reply, uint8_t *random);
#define DTLSFFI_ANSWERED 0x80000000     /* in a batch, the length of a datagram that needs no more to be done about it */
int dtlsffi_udp_answer_untrusted(int fd, int v6_socket, dtlsffi_cookie_jar *jar, dtlsffi_batch *batch, int count,
                                 int full, int *passed_over);

/* conn.c: one SSL, its lock and its carrier (memory, or a connected socket where fd >= 0) */
dtlsffi_conn *dtlsffi_conn_new(SSL_CTX *ctx, int server_side, int fd, void *handle);
void dtlsffi_conn_free(dtlsffi_conn *conn);
int dtlsffi_conn_lock(dtlsffi_conn *conn);
void dtlsffi_conn_unlock(dtlsffi_conn *conn);
SSL *dtlsffi_conn_ssl(dtlsffi_conn *conn);
size_t dtlsffi_conn_pending(dtlsffi_conn *conn);
int dtlsffi_conn_events(dtlsffi_conn *conn);
int dtlsffi_conn_alert_received(dtlsffi_conn *conn);
int dtlsffi_conn_alert_held(dtlsffi_conn *conn);
int dtlsffi_conn_established(dtlsffi_conn *conn);
void dtlsffi_conn_detach(dtlsffi_conn *conn);
dtlsffi_outbox *dtlsffi_conn_outbox(dtlsffi_conn *conn);
void dtlsffi_conn_outbox_clear(dtlsffi_conn *conn);
const dtlsffi_stats *dtlsffi_conn_stats(dtlsffi_conn *conn);

/* cookie.c: how a server's connection begins behind a port that it shares */
void dtlsffi_conn_ask_cookie(dtlsffi_conn *conn, dtlsffi_cookie_jar *jar, const dtlsffi_address *address);
int dtlsffi_conn_begin(dtlsffi_conn *conn, const uint8_t *data, size_t length);

/* flow.c: what moves a connection on */
int dtlsffi_conn_handshake(dtlsffi_conn *conn);
int dtlsffi_conn_receive(dtlsffi_conn *conn, const uint8_t *data, size_t length, dtlsffi_inbox *inbox);
int dtlsffi_conn_read(dtlsffi_conn *conn, uint8_t *buffer, size_t size, size_t limit);
int dtlsffi_conn_send(dtlsffi_conn *conn, const uint8_t *data, size_t length);
int dtlsffi_conn_shutdown(dtlsffi_conn *conn);
int dtlsffi_conn_update_keys(dtlsffi_conn *conn, int request_peer);

/* timer.c: microseconds; the back-off is a factor of at least 1 */
int64_t dtlsffi_conn_timer(dtlsffi_conn *conn);
int dtlsffi_conn_handle_timer(dtlsffi_conn *conn);
void dtlsffi_conn_set_timers(dtlsffi_conn *conn, uint32_t initial, double back_off, uint32_t cap);

/* context.c, tickets.c */
#define DTLSFFI_TICKET_KEY 80     /* bytes: name 16, HMAC-SHA256 32, AES-256-CBC 32, as nginx has them */
SSL_CTX *dtlsffi_ctx_new(const SSL_METHOD *method);
uint8_t *dtlsffi_ctx_take_removed(SSL_CTX *ctx, size_t *length);
int dtlsffi_store_list(X509_STORE *store, X509 **certificates, int room, int *crls);
int dtlsffi_ctx_set_protocols(SSL_CTX *ctx, const uint8_t *list, size_t length);
int dtlsffi_ctx_set_ticket_keys(SSL_CTX *ctx, const uint8_t *keys, size_t count);

/* callbacks.c: which questions go to the connection's handle */
void dtlsffi_ctx_log_keys(SSL_CTX *ctx, int on);
void dtlsffi_ctx_set_trace(SSL_CTX *ctx, int on);
void dtlsffi_ctx_ask_psk(SSL_CTX *ctx, int client, int server);
void dtlsffi_ctx_ask_by_name(SSL_CTX *ctx, int on);
void dtlsffi_ctx_set_verify(SSL_CTX *ctx, int mode, int ask);
void dtlsffi_conn_set_pinned(dtlsffi_conn *conn);
void dtlsffi_ctx_ask_status(SSL_CTX *ctx, int on);
void dtlsffi_ctx_ask_sessions(SSL_CTX *ctx, int give, int find, int forget);
int dtlsffi_conn_adopt(dtlsffi_conn *conn, SSL_CTX *ctx, int has_psk, int traces);

/* mtu.c: UDP payload bytes, and the plaintext that fits */
int dtlsffi_conn_set_mtu(dtlsffi_conn *conn, size_t mtu);
size_t dtlsffi_conn_mtu(dtlsffi_conn *conn);
size_t dtlsffi_conn_flight_mtu(dtlsffi_conn *conn);
size_t dtlsffi_conn_data_mtu(dtlsffi_conn *conn);

/* CDEF END */

#include <pthread.h>
#include <stdatomic.h>

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
    pthread_mutex_t mutex;
    _Atomic(uintptr_t) owner;
    unsigned depth;
} dtlsffi_lock;

bool dtlsffi_lock_init(dtlsffi_lock *lock);
void dtlsffi_lock_destroy(dtlsffi_lock *lock);
unsigned dtlsffi_lock_take(dtlsffi_lock *lock);
void dtlsffi_lock_release(dtlsffi_lock *lock);

/* gil.c */
void *dtlsffi_gil_release(void);
void dtlsffi_gil_retake(void *token);

/* outbox.c */
bool dtlsffi_outbox_append(dtlsffi_outbox *box, const uint8_t *data, size_t length);
void dtlsffi_outbox_clear(dtlsffi_outbox *box);

/* records.c: what can be seen of records without their keys */
#define DTLSFFI_RECORD_HEADER 13
#define DTLSFFI_ALERT_RECORD 15 /* a plaintext alert: header, level, description */
#define DTLSFFI_WATCHED 32
#define DTLSFFI_SHORTEST 24 /* the longest nonce and tag of any AEAD; a Finished has 24 bytes more */

typedef struct {
    uint64_t top;                       /* epoch and sequence number of the newest record delivered */
    uint64_t seen;                      /* bit i: record top - i was delivered */
    uint64_t fed[DTLSFFI_WATCHED];      /* the records OpenSSL is reading just now */
    uint32_t fed_count;
    uint32_t delivered;                 /* how many of them came out as plaintext */
} dtlsffi_watch;

size_t dtlsffi_record_length(const uint8_t *data, size_t length);
size_t dtlsffi_records_shortest(SSL *ssl);
size_t dtlsffi_records_accept_untrusted(dtlsffi_conn *conn, uint8_t *data, size_t length);
void dtlsffi_records_settle(dtlsffi_conn *conn);

/* tickets.c */
typedef struct {
    CRYPTO_RWLOCK *lock;
    uint8_t *keys;
    size_t count;
} dtlsffi_tickets;

bool dtlsffi_tickets_init(dtlsffi_tickets *tickets);
void dtlsffi_tickets_free(dtlsffi_tickets *tickets);

/* context.c */
typedef struct {
    pthread_mutex_t removed_lock;
    uint8_t *removed;           /* ids of sessions that are not to be resumed, each behind its length */
    size_t removed_length;
    uint8_t *protocols;         /* ALPN, as on the wire */
    size_t protocols_length;
    dtlsffi_tickets tickets;
} dtlsffi_ctx_data;

bool dtlsffi_ctx_init(void);
dtlsffi_ctx_data *dtlsffi_ctx_get_data(const SSL_CTX *ctx);
void dtlsffi_ctx_note_removed(SSL_CTX *ctx, const uint8_t *id, size_t length);

/* conn.c */
struct dtlsffi_conn {
    SSL *ssl;
    void *handle;               /* Python's object for the callbacks, or NULL */
    SSL_CTX *ctx;               /* the one it began with, where its session and tickets belong; the SSL holds it */
    dtlsffi_ctx_data *ctx_data; /* what that one carries of ours */
    dtlsffi_lock lock;
    unsigned long born;         /* dtlsffi_fork_count at birth */
    bool established;           /* the handshake is finished */
    bool failed;                /* OpenSSL will not go on with this SSL */
    bool shut;                  /* we have sent close_notify */
    bool pinned;                /* the peer has to show a certificate or raw key, and it is not the chain that decides */
    bool abandoned;             /* closed within one of its own callbacks */
    bool sending;               /* an application record is on its way through the BIO */
    int io_errno;               /* what the BIO met in this call */

    int fd;                     /* the carrier: a connected socket, or -1 for memory */
    bool detached;              /* there was a socket, and it is gone */
    bool ipv6;
    const uint8_t *in;          /* one datagram to be read before the carrier is asked */
    size_t in_length;
    dtlsffi_outbox out;

    size_t mtu;                 /* UDP payload ceiling; 0: ask the kernel */
    size_t flight_mtu;          /* the same for handshake datagrams, which falls when flights get lost */
    size_t data_mtu;            /* plaintext that fits in one datagram; 0 before the handshake */
    size_t shortest;            /* the shortest encrypted fragment there can be */

    uint32_t timer_initial;     /* microseconds */
    uint32_t timer_cap;
    double timer_back_off;
    uint32_t timer_current;

    int events;
    int alert_received;         /* description, or -1 */
    uint8_t held_alert[DTLSFFI_ALERT_RECORD];
    bool alert_is_held;
    unsigned verify_requests;   /* HelloVerifyRequests so far */
    bool alert_is_released;

    uint8_t *held_record;       /* a record larger than the buffer it was asked into */
    size_t held_record_length;

    dtlsffi_cookie_jar *jar;    /* where cookies for this peer come from, or NULL */
    dtlsffi_address address;    /* whom they are for */
    bool proven;                /* its cookie has been checked */

    dtlsffi_watch watch;
    dtlsffi_stats stats;
};

extern unsigned long dtlsffi_fork_count;

int dtlsffi_conn_enter(dtlsffi_conn *conn);
void dtlsffi_conn_leave(dtlsffi_conn *conn);
int dtlsffi_conn_result(dtlsffi_conn *conn, int ret);
int dtlsffi_conn_fail(dtlsffi_conn *conn);
void dtlsffi_conn_drop_held_record(dtlsffi_conn *conn);

/* cookie.c */
bool dtlsffi_cookie_make(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, uint8_t *cookie);
bool dtlsffi_cookie_check_untrusted(dtlsffi_cookie_jar *jar, const dtlsffi_address *address,
                                    const uint8_t *cookie, size_t length);
void dtlsffi_ctx_set_cookies(SSL_CTX *ctx);

/* flow.c */
int dtlsffi_conn_step(dtlsffi_conn *conn);
void dtlsffi_conn_say_goodbye(dtlsffi_conn *conn);
int dtlsffi_conn_why_failed(const dtlsffi_conn *conn);

/* datagram_bio.c */
bool dtlsffi_datagram_bio_init(void);
BIO *dtlsffi_datagram_bio_new(dtlsffi_conn *conn);

/* mtu.c */
size_t dtlsffi_mtu_overhead(const dtlsffi_conn *conn);
size_t dtlsffi_mtu_fall_back(dtlsffi_conn *conn);
void dtlsffi_mtu_refresh(dtlsffi_conn *conn);

/* timer.c */
unsigned int dtlsffi_timer_next(SSL *ssl, unsigned int previous);

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
