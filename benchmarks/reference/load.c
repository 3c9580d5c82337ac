/* The load generator: `load --port PORT --pid PID [--mode psk]`, then commands on stdin, each answered by a line of JSON.
 *
 *   connect N [full]          has N peers in all; they resume the first one's session unless told otherwise
 *   saturate SECONDS SIZE WINDOW
 *   rate PER_SECOND SECONDS SIZE
 *   handshakes N full|resumed|psk WINDOW      N handshakes, closed afterwards
 *   rss                       the server's resident memory
 *   close                     all peers
 *
 * And `flood --port PORT --count PER_SECOND --seconds T`: ClientHellos of strangers that never answer.
 */
#include "load.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* CPU time of all its threads, in seconds. */
double process_cpu(long pid)
{
    clockid_t clock;
    struct timespec time;

    if (clock_getcpuclockid((pid_t)pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        die("the server's CPU time");
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

long process_rss(long pid)
{
    char path[64];
    long pages = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%ld/statm", pid);
    file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
        die(path);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void do_handshakes(const options *o, int count, const char *kind, int window)
{
    bool resume = strcmp(kind, "resumed") == 0;
    int from = g.count;
    double cpu = process_cpu(o->pid);
    double start = now();
    int again = clients_connect(from, from + count, resume, window);
    double seconds = now() - start;
    int reused = 0;

    for (int i = from; i < from + count; i++)
        reused += SSL_session_reused(g.peers[i].ssl);
    clients_close(from, from + count);
    usleep(100000);
    cpu = process_cpu(o->pid) - cpu;
    printf("{\"kind\": \"%s\", \"count\": %d, \"reused\": %d, \"again\": %d, \"seconds\": %.4f, \"per_second\": %.1f, "
           "\"server_cpu_us\": %.2f}\n",
           kind, count, reused, again, seconds, count / seconds, cpu * 1e6 / count);
}

static void do_connect(const options *o, int total, bool resume)
{
    double start = now();
    int again = 0;

    if (total > PEERS_MAX)
        die("too many peers");
    if (total < g.count)
        clients_close(total, g.count);
    else
        again = clients_connect(g.count, total, resume, 32);
    printf("{\"peers\": %d, \"seconds\": %.3f, \"again\": %d, \"rss_kb\": %ld}\n", g.count, now() - start, again,
           process_rss(o->pid));
}

static void obey(const options *o, char *line)
{
    char word[32] = "";
    char kind[32] = "";
    double rate = 0;
    double seconds = 0;
    int number = 0;
    int window = 0;

    if (sscanf(line, "connect %d %31s", &number, kind) >= 1) {
        do_connect(o, number, strcmp(kind, "full") != 0 && strcmp(o->mode, "psk") != 0);
    } else if (sscanf(line, "saturate %lf %d %d", &seconds, &number, &window) == 3) {
        run_echoes(o, seconds, number, window, 0);
    } else if (sscanf(line, "rate %lf %lf %d", &rate, &seconds, &number) == 3) {
        run_echoes(o, seconds, number, 0, rate);
    } else if (sscanf(line, "handshakes %d %31s %d", &number, kind, &window) == 3) {
        do_handshakes(o, number, kind, window);
    } else if (sscanf(line, "%31s", word) == 1 && strcmp(word, "rss") == 0) {
        printf("{\"rss_kb\": %ld, \"peers\": %d}\n", process_rss(o->pid), g.count);
    } else if (strcmp(word, "close") == 0) {
        clients_close(0, g.count);
        printf("{\"peers\": 0}\n");
    } else {
        printf("{\"error\": \"no such command\"}\n");
    }
    fflush(stdout);
}

int role_load(const options *o)
{
    char line[256];

    if (o->pid == 0 || o->port == 0) {
        fprintf(stderr, "load needs --port and --pid\n");
        return 2;
    }
    generator_open(o);
    while (fgets(line, sizeof(line), stdin) != NULL)
        obey(o, line);
    if (g.count > 0)
        clients_close(0, g.count);
    return 0;
}

/* One ClientHello, again and again, from thousands of addresses; what comes back is not read. */
int role_flood(const options *o)
{
    static outbox out;
    wire w = {.out = &out};
    const uint8_t *data[BATCH];
    int index[BATCH];
    double start;
    long sent = 0;
    int small = 2048;

    outbox_make(&out, 1 << 16, 16);
    generator_open(o);
    setsockopt(g.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    (void)SSL_do_handshake(wire_ssl(g.context, &w, false));
    printf("{\"hello\": %zu}\n", out.used);
    fflush(stdout);
    start = now();
    while (now() < start + o->seconds) {
        long due = (long)((now() - start) * o->count) - sent;

        if (due < BATCH) {
            usleep(200);
            continue;
        }
        for (int i = 0; i < BATCH; i++) {
            data[i] = out.data;
            index[i] = PEERS_MAX + (int)((sent + i) % 50000);
        }
        generator_send(data, out.used, index, BATCH);
        sent += BATCH;
    }
    printf("{\"sent\": %ld, \"per_second\": %.1f}\n", sent, (double)sent / (now() - start));
    return 0;
}
