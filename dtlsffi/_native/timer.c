/* The retransmission timer: RFC 6347 section 4.2.4.
 *
 * OpenSSL keeps it by the wall clock. What it answers is clamped to what the timer was set to, so that a clock that is
 * put back cannot make anybody wait longer; the caller turns the answer at once into a deadline of its own clock.
 */
#include "core.h"

#include <sys/time.h>
#include <time.h>

/* For all that is not OpenSSL's: by the clock of Python's time.monotonic(). */
int64_t dtlsffi_nanoseconds(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void dtlsffi_conn_set_timers(dtlsffi_conn *conn, uint32_t initial, double back_off, uint32_t cap)
{
    conn->timers = (dtlsffi_timers){.initial = initial, .back_off = back_off, .cap = cap};
}

#define REPEATS_AT_MOST 12 /* of one flight, by OpenSSL: then the handshake ends */
#define LOST_TO_FALL_BACK 2 /* flights in a row; OpenSSL itself has a third one lost */

static void fall_back(dtlsffi_conn *conn)
{
    if ((SSL_get_options(conn->ssl) & SSL_OP_NO_QUERY_MTU) == 0)
        SSL_set_mtu(conn->ssl, (long)dtlsffi_mtu_fall_back(conn));
}

/* OpenSSL asks with 0 for the first duration of a flight, later with the last one, when it has run out. */
unsigned int dtlsffi_timer_next(SSL *ssl, unsigned int previous)
{
    dtlsffi_conn *conn = SSL_get_app_data(ssl);
    double longer;

    if (previous == 0) { /* a flight of our own: the peer has answered the last one in earnest */
        conn->alert_is_held = false;
        conn->repeats = 0;
        conn->timer_current = conn->timers.initial;
    } else if (++conn->repeats <= REPEATS_AT_MOST) {
        if (conn->repeats == LOST_TO_FALL_BACK && !conn->established)
            fall_back(conn);
        longer = (double)conn->timer_current * conn->timers.back_off;
        conn->timer_current = longer < (double)conn->timers.cap ? (uint32_t)longer : conn->timers.cap;
        DTLSFFI_COUNT_BOTH(conn, flights_retransmitted, 1);
    }
    return conn->timer_current + DTLSFFI_TIMER_SLACK;
}

/* Microseconds until dtlsffi_conn_handle_timer() is due, or -1 if no timer runs. */
int64_t dtlsffi_timer_left(dtlsffi_conn *conn)
{
    struct timeval left;
    int64_t microseconds;

    if (DTLSv1_get_timeout(conn->ssl, &left) != 1)
        return -1;
    microseconds = (int64_t)left.tv_sec * 1000000 + left.tv_usec;
    if (microseconds == 0)
        return 0;
    microseconds -= DTLSFFI_TIMER_SLACK;
    if (microseconds < 1) /* OpenSSL says that it has not run out, so it has not */
        return 1;
    return microseconds < conn->timer_current ? microseconds : conn->timer_current;
}

int64_t dtlsffi_conn_timer(dtlsffi_conn *conn)
{
    int64_t left;

    if (dtlsffi_conn_enter(conn) != 0)
        return -1;
    left = conn->failed ? -1 : dtlsffi_timer_left(conn);
    dtlsffi_conn_leave(conn);
    return left;
}

/* The peer had its chance to answer in earnest: so the alert was. */
static int release_alert(dtlsffi_conn *conn)
{
    int answer;

    conn->alert_is_held = false;
    conn->alert_is_released = true;
    conn->in = conn->held_alert;
    conn->in_length = sizeof(conn->held_alert);
    answer = dtlsffi_conn_step(conn);
    conn->in_length = 0;
    conn->alert_is_released = false;
    return answer;
}

static int run_out(dtlsffi_conn *conn)
{
    long answer;

    if (conn->failed)
        return dtlsffi_conn_why_failed(conn);
    if (dtlsffi_timer_left(conn) != 0)
        return 0;
    if (conn->alert_is_held && !conn->established)
        return release_alert(conn);
    conn->repeating = true;
    answer = DTLSv1_handle_timeout(conn->ssl);
    conn->repeating = false;
    dtlsffi_conn_send_packed(conn);
    if (answer < 0)
        return dtlsffi_conn_result(conn, -1);
    return conn->io_errno != 0 ? dtlsffi_fault_system(conn->io_errno) : 0;
}

/* Sends the last flight again if its timer has run out. Returns 0 or more, or the reason why not. */
int dtlsffi_conn_handle_timer(dtlsffi_conn *conn)
{
    int answer = dtlsffi_conn_enter(conn);

    if (answer != 0)
        return answer;
    answer = run_out(conn);
    dtlsffi_conn_leave(conn);
    return answer;
}
