/* dtlsffi's own C: its structures and prototypes.
 *
 * The part between the two CDEF lines is declared once and read twice: by the compiler here, and by build_ffi.py,
 * which hands it to cffi. It is what Python sees; what inside.h has, only the C files see.
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
    uint64_t dropped_queue_full;        /* records for which there was no more room: Python counts them */
    uint64_t alerts_held;               /* plaintext alerts held back until the timer ran out */
} dtlsffi_stats;

/* What happened on a connection beside its data: bits of dtlsffi_conn_events(). */
#define DTLSFFI_EVENT_ESTABLISHED 1
#define DTLSFFI_EVENT_ALERT 2
#define DTLSFFI_EVENT_CLOSED 4
#define DTLSFFI_EVENT_MTU 8
#define DTLSFFI_NEWS_ESTABLISHED 16     /* these are no events, but how things are: dtlsffi_conn_news() */
#define DTLSFFI_NEWS_TIMER 8            /* the bits above these are the timer's */

typedef struct dtlsffi_conn dtlsffi_conn;

/* module.c */
int dtlsffi_module_init(void);

/* gil.c */
int dtlsffi_gil_callbacks(void);

/* calls.c */
#define DTLSFFI_PUMP_COUNT 0x7f
#define DTLSFFI_PUMP_FULL 0x80          /* as many messages have come as were asked for: there may be more */
#define DTLSFFI_PUMP_STRANGERS 0x100    /* some are left in the batch */
#define DTLSFFI_PUMP_ODD 0x200          /* a connection has had something else than data: see the batch's answer */
#define DTLSFFI_PUMP_MORE 0x400         /* and the batch is not through */
int dtlsffi_calls_put(void *dictionary);

/* fault.c */
dtlsffi_fault *dtlsffi_fault_last(void);
void dtlsffi_fault_take(void);

/* udp.c: a peer's address in one form, whatever the socket: IPv4 also where it is mapped into IPv6, in the first 4
 * bytes */
typedef struct {
    uint8_t ip[16];
    uint8_t port[2];                    /* network order */
    uint8_t family;                     /* 4 or 6; 0: unknown */
    uint8_t zero;
    uint32_t scope;                     /* of a link-local IPv6 address: its interface */
} dtlsffi_address;

/* One socket, and what is known of it. */
typedef struct {
    int fd;
    int v6;                             /* it is of AF_INET6 */
    int connected;                      /* all datagrams are for its one peer */
    int segments;                       /* the kernel cuts messages: UDP_SEGMENT */
    int uncut;                          /* batches of which it would cut none since it cut one */
    int joins;                          /* it joins datagrams: UDP_GRO */
    int whole;                          /* nobody may fragment its datagrams: IP_PMTUDISC_DO */
    int forbidden;                      /* and that was our doing */
    int most;                           /* how many messages it is asked for next */
    int linger;                         /* milliseconds that a close_notify may wait for room */
    int in_vain;                        /* the last one has */
    unsigned long born;                 /* in which process it was prepared; 0: not yet */
    uint64_t datagrams_received;
    uint64_t datagrams_cut;             /* larger than any should be */
    uint64_t datagrams_sent;
    uint64_t dropped_junk;              /* and the next two: what its connections have dropped, gone ones, too */
    uint64_t dropped_replayed;
    uint64_t dropped_unauthenticated;
    uint64_t dropped_unsent;            /* the kernel would not take them, and they were not data */
    uint64_t flights_retransmitted;
    uint64_t segmented;                 /* datagrams that were sent as a part of a longer message */
    uint64_t joined;                    /* datagrams that came as a part of one */
    uint64_t overflowed;                /* what the kernel had no room for, once the socket has been let go of */
} dtlsffi_udp;

#define DTLSFFI_WITHOUT_GSO 1
#define DTLSFFI_WITHOUT_GRO 2
#define DTLSFFI_WITHOUT_DF 4
void dtlsffi_udp_do_without(int what);

enum dtlsffi_socket_answer { DTLSFFI_PARENTS = -0x10000 }; /* instead of -errno: the socket is a parent process's */
#define DTLSFFI_BATCH 64
#define DTLSFFI_MESSAGE_MAX 65856       /* 64 kB, and a bit: at multiples of 64 kB all would share a set of the cache */
#define DTLSFFI_STRANGERS 4096          /* as many datagrams as 64 messages can hold */
#define DTLSFFI_HELLO_RANDOM 36
#define DTLSFFI_HELLO_MAX 16000         /* bytes of a ClientHello, which is to be one record when it is put together */
typedef struct {
    uint32_t message;
    uint32_t offset;
    uint32_t length;
    uint32_t proven;                    /* a hello, or its first fragment, with a cookie of ours: here is its random */
    uint8_t random[DTLSFFI_HELLO_RANDOM];
} dtlsffi_stranger;

/* What has come: messages of `length[i]` bytes, each one datagram or several of `size[i]` bytes. */
typedef struct {
    uint32_t count;
    uint32_t full;                      /* whether as many have come as were asked for */
    uint32_t at;                        /* the message that is being looked at */
    uint32_t offset;                    /* and how far */
    uint32_t unfinished;                /* one of its datagrams holds more records than there was room for */
    int answer;                         /* how the last connection with news has failed, or 0 */
    int steps;                          /* of handshakes there may still be before others have their turn */
    uint32_t joined;                    /* datagrams that came joined to others */
    uint32_t answered;                  /* strangers who were asked for a cookie */
    uint32_t passed_over;               /* and who were not, in a flood */
    uint32_t malformed;                 /* what seemed to be a ClientHello */
    uint32_t stranger_count;
    uint32_t length[DTLSFFI_BATCH];     /* 0: cut, or of no family known */
    uint32_t size[DTLSFFI_BATCH];
    dtlsffi_address senders[DTLSFFI_BATCH];
    dtlsffi_address receivers[DTLSFFI_BATCH];   /* which of our own addresses they were sent to */
    dtlsffi_stranger strangers[DTLSFFI_STRANGERS];
    uint8_t data[DTLSFFI_BATCH][DTLSFFI_MESSAGE_MAX];
} dtlsffi_batch;

uint64_t dtlsffi_udp_overflowed(const dtlsffi_udp *udp);
void dtlsffi_udp_prepare(dtlsffi_udp *udp, int fd, int connected, int joined);
void dtlsffi_udp_release(dtlsffi_udp *udp);
dtlsffi_batch *dtlsffi_batch_new(void);
void dtlsffi_batch_free(dtlsffi_batch *batch);
int dtlsffi_udp_receive(dtlsffi_udp *udp, dtlsffi_batch *batch);
int dtlsffi_udp_send(dtlsffi_udp *udp, const dtlsffi_address *to, const dtlsffi_address *local, const uint8_t *data,
                     size_t length);

/* table.c: which connection a datagram is for */
typedef struct dtlsffi_table dtlsffi_table;
dtlsffi_table *dtlsffi_table_new(unsigned warm_at_most);
void dtlsffi_table_free(dtlsffi_table *table);
int dtlsffi_table_put(dtlsffi_table *table, dtlsffi_conn *conn, uint32_t owner);
void dtlsffi_table_settle(dtlsffi_conn *conn, double now);
void dtlsffi_table_remove(dtlsffi_table *table, dtlsffi_conn *conn);
int dtlsffi_table_tidy(dtlsffi_table *table, double since);

/* cookie.c */
#define DTLSFFI_COOKIE 32
#define DTLSFFI_HELLO_VERIFY_REQUEST 60
typedef struct dtlsffi_cookie_jar dtlsffi_cookie_jar;
enum dtlsffi_hello {
    DTLSFFI_HELLO_NONE = 0,             /* no ClientHello at all */
    DTLSFFI_HELLO_BAD = -4,             /* what begins like one, and is not to be answered */
    DTLSFFI_HELLO_PROVEN = -1,          /* with a cookie of ours */
    DTLSFFI_HELLO_FRAGMENT = -2,        /* a fragment of one, but not the first */
    DTLSFFI_HELLO_UNPROVEN = -3,        /* without a cookie, and no answer was asked for */
};
dtlsffi_cookie_jar *dtlsffi_cookie_jar_new(const uint8_t *secret, size_t length);
void dtlsffi_cookie_jar_free(dtlsffi_cookie_jar *jar);
int dtlsffi_hello_look_untrusted(dtlsffi_cookie_jar *jar, const dtlsffi_address *address, const uint8_t *data,
                                 size_t length, uint8_t *reply, uint8_t *random);

/* strangers.c */
void dtlsffi_strangers_answer_untrusted(dtlsffi_udp *udp, dtlsffi_cookie_jar *jar, dtlsffi_batch *batch, int expected);

/* lock.c */
void dtlsffi_lock_end(void);

/* conn.c: one SSL, its lock and its carrier (memory, or a connected socket where fd >= 0) */
dtlsffi_conn *dtlsffi_conn_new(SSL_CTX *ctx, int server_side, int fd, void *handle);
int dtlsffi_conn_lock(dtlsffi_conn *conn);
void dtlsffi_conn_unlock(dtlsffi_conn *conn);
SSL *dtlsffi_conn_ssl(dtlsffi_conn *conn);
size_t dtlsffi_conn_pending(dtlsffi_conn *conn);
int dtlsffi_conn_events(dtlsffi_conn *conn);
int64_t dtlsffi_conn_news(dtlsffi_conn *conn);
int dtlsffi_conn_alert_received(dtlsffi_conn *conn);
int dtlsffi_conn_alert_held(dtlsffi_conn *conn);
int dtlsffi_conn_closed(dtlsffi_conn *conn);
void dtlsffi_conn_share(dtlsffi_conn *conn, dtlsffi_udp *udp, int in_memory, const dtlsffi_address *address);
const dtlsffi_address *dtlsffi_conn_address(dtlsffi_conn *conn);
dtlsffi_address *dtlsffi_conn_local(dtlsffi_conn *conn);
const dtlsffi_fault *dtlsffi_conn_fault(const dtlsffi_conn *conn);
int dtlsffi_conn_unsent(const dtlsffi_conn *conn);
void dtlsffi_conn_meet(dtlsffi_conn *conn);
void dtlsffi_conn_detach(dtlsffi_conn *conn);
double dtlsffi_conn_seen(dtlsffi_conn *conn, double now);
dtlsffi_stats *dtlsffi_conn_stats(dtlsffi_conn *conn);

/* handshake.c */
int dtlsffi_conn_begin(dtlsffi_conn *conn, const uint8_t *data, size_t length);
int dtlsffi_conn_handshake(dtlsffi_conn *conn);

/* flow.c: what moves a connection on */
int dtlsffi_conn_read(dtlsffi_conn *conn, uint8_t *buffer, size_t size, size_t limit);
void dtlsffi_conn_keep_record(dtlsffi_conn *conn, const uint8_t *record, size_t length);
int dtlsffi_conn_open_kept(dtlsffi_conn *conn);
int dtlsffi_conn_shutdown(dtlsffi_conn *conn);
int dtlsffi_conn_update_keys(dtlsffi_conn *conn, int request_peer);

/* wait.c */
int dtlsffi_conn_waiting(dtlsffi_conn *conn);

/* socket_methods.c */
#define DTLSFFI_MAY_SEND 1              /* the handshake is finished */
#define DTLSFFI_MAY_READ 2              /* and no timer runs, nobody joins datagrams, nothing is closed */
void dtlsffi_conn_allow(dtlsffi_conn *conn, int what);
void dtlsffi_conn_forbid(dtlsffi_conn *conn, int what);
int dtlsffi_conn_lulls(const dtlsffi_conn *conn);

/* timer.c: microseconds; the back-off is a factor of at least 1 */
int64_t dtlsffi_conn_timer(dtlsffi_conn *conn);
int dtlsffi_conn_handle_timer(dtlsffi_conn *conn);
void dtlsffi_conn_set_timers(dtlsffi_conn *conn, uint32_t initial, double back_off, uint32_t cap);

/* context.c, tickets.c */
#define DTLSFFI_TICKET_KEY 80     /* bytes: name 16, HMAC-SHA256 32, AES-256-CBC 32, as nginx has them */
#define DTLSFFI_RULES 32          /* bytes that stand for the rules by which a peer is verified */
SSL_CTX *dtlsffi_ctx_new(const SSL_METHOD *method);
void dtlsffi_ctx_begin_with(SSL_CTX *ctx, const uint8_t *rules, size_t mtu, uint32_t initial, double back_off,
                            uint32_t cap);
int dtlsffi_ctx_asks(SSL_CTX *ctx);
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
extern pem_password_cb *const dtlsffi_no_password;

/* mtu.c: UDP payload bytes, and the plaintext that fits */
void dtlsffi_conn_follow_path(dtlsffi_conn *conn);
int dtlsffi_conn_set_mtu(dtlsffi_conn *conn, size_t mtu);
size_t dtlsffi_conn_mtu(dtlsffi_conn *conn);
size_t dtlsffi_conn_flight_mtu(dtlsffi_conn *conn);
size_t dtlsffi_conn_data_mtu(dtlsffi_conn *conn);

/* CDEF END */

#include "inside.h"

#endif
