/* Which connection a datagram is for, and what comes of a batch of them.
 *
 * The table knows established connections, and those that are shaking hands with who has proved where it is. Whatever
 * else there is (strangers, ClientHellos, plaintext records in an established peer's name, steps of handshakes beyond
 * what one batch may take) is left in the batch for the endpoint to look at, one by one.
 *
 * A handshake's step may call Python, and Python may change the table: no entry is looked at after it.
 */
#include "core.h"

#include <openssl/rand.h>

typedef struct {
    dtlsffi_conn *conn; /* NULL: free */
    uint32_t owner;     /* the endpoint's number for it */
    uint32_t hash;      /* of its address, so that only the right one's memory is fetched to be compared */
} entry;

struct dtlsffi_table {
    entry *entries;
    size_t room; /* a power of two, at least twice the count */
    size_t count;
    uint64_t secret[2];
    pthread_mutex_t lock;  /* of the list of those that are warm: any thread may send */
    dtlsffi_conn *warmest; /* the last one that came into it */
    dtlsffi_conn *coolest; /* and the first one that is there still */
    unsigned warm;         /* how many they are */
    unsigned warm_at_most; /* and may be, but for those who have spoken within a lull */
    unsigned long born;    /* dtlsffi_fork_count at birth: who forks may have the lock, and the list in its hands */
};

#define LULL 0.02 /* seconds: whoever has been silent for longer makes room */
#define MANY 1024 /* connections that have given buffers back at one time: their pages go back to the system */

#if DTLSFFI_HAS_INT128

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#else /* of 32 bits */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t product = (a ^ a >> 32) * (b | 1);

    product ^= product >> 29;
    return product * UINT64_C(0xbf58476d1ce4e5b9) ^ b;
}

#endif

/* Keyed, so that nobody can choose addresses that collide. */
static uint32_t hash_of(const dtlsffi_table *table, const dtlsffi_address *address)
{
    uint64_t words[4] = {0};

    memcpy(words, address, sizeof(*address));
    words[3] |= (uint64_t)1 << 63;
    return (uint32_t)mix(mix(words[0] ^ table->secret[0], words[1] ^ table->secret[1]) ^ words[2],
                         words[3] ^ table->secret[0]);
}

static entry *first(const dtlsffi_table *table, uint32_t hash)
{
    return &table->entries[hash & (table->room - 1)];
}

static entry *next(const dtlsffi_table *table, const entry *at)
{
    return &table->entries[(size_t)(at + 1 - table->entries) & (table->room - 1)];
}

static bool is_at(const entry *at, uint32_t hash, const dtlsffi_address *address)
{
    return at->hash == hash && memcmp(&at->conn->address, address, sizeof(*address)) == 0;
}

/* Where an address is, or would be. */
static entry *look_up(const dtlsffi_table *table, const dtlsffi_address *address)
{
    uint32_t hash = hash_of(table, address);
    entry *at = first(table, hash);

    while (at->conn != NULL && !is_at(at, hash, address))
        at = next(table, at);
    return at;
}

static entry *free_place(const dtlsffi_table *table, uint32_t hash)
{
    entry *at = first(table, hash);

    while (at->conn != NULL)
        at = next(table, at);
    return at;
}

static bool grow(dtlsffi_table *table, size_t room)
{
    dtlsffi_table larger = *table;

    larger.room = room;
    larger.entries = OPENSSL_zalloc(room * sizeof(entry));
    if (larger.entries == NULL)
        return false;
    for (size_t i = 0; i < table->room; i++)
        if (table->entries[i].conn != NULL)
            *free_place(&larger, table->entries[i].hash) = table->entries[i];
    OPENSSL_free(table->entries);
    table->entries = larger.entries; /* and nothing else: who sends meanwhile is in the list of those that are warm */
    table->room = larger.room;
    return true;
}

/* Whoever is still in it is let go of: the garbage collector frees in any order. */
void dtlsffi_table_free(dtlsffi_table *table)
{
    for (size_t i = 0; i < table->room; i++)
        if (table->entries[i].conn != NULL) {
            table->entries[i].conn->table = NULL;
            table->entries[i].conn->warm = false;
        }
    pthread_mutex_destroy(&table->lock);
    OPENSSL_free(table->entries);
    OPENSSL_free(table);
}

/* `warm_at_most` connections keep OpenSSL's buffers between two records of theirs. */
dtlsffi_table *dtlsffi_table_new(unsigned warm_at_most)
{
    dtlsffi_table *table = OPENSSL_zalloc(sizeof(*table));

    if (table == NULL || pthread_mutex_init(&table->lock, NULL) != 0) {
        OPENSSL_free(table);
        return NULL;
    }
    if (!grow(table, 16) || RAND_bytes((uint8_t *)table->secret, sizeof(table->secret)) != 1) {
        dtlsffi_table_free(table);
        return NULL;
    }
    table->warm_at_most = warm_at_most;
    table->born = dtlsffi_fork_count;
    return table;
}

static void link_warm(dtlsffi_table *table, dtlsffi_conn *conn)
{
    if (conn->warm)
        return;
    conn->warm = true;
    conn->warmer = NULL;
    conn->cooler = table->warmest;
    *(conn->cooler != NULL ? &conn->cooler->warmer : &table->coolest) = conn;
    table->warmest = conn;
    table->warm++;
}

static void unlink_warm(dtlsffi_table *table, dtlsffi_conn *conn)
{
    if (!conn->warm)
        return;
    *(conn->warmer != NULL ? &conn->warmer->cooler : &table->warmest) = conn->cooler;
    *(conn->cooler != NULL ? &conn->cooler->warmer : &table->coolest) = conn->warmer;
    conn->warm = false;
    table->warm--;
}

/* Has a connection's buffers given back when it has been silent for a while. */
void dtlsffi_table_warm(dtlsffi_conn *conn)
{
    dtlsffi_table *table = conn->table;

    if (conn->warm || table == NULL || dtlsffi_is_parents(table->born))
        return;
    pthread_mutex_lock(&table->lock);
    if (conn->table == table) /* it may have been removed meanwhile */
        link_warm(table, conn);
    pthread_mutex_unlock(&table->lock);
}

/* Whether there are too many, and the one that has been warm for longest has given its buffers back; where that has
 * been heard of lately, it goes to the others' end. Under the table's lock nobody frees it, and nobody's lock is
 * waited for. */
static bool cool_one(dtlsffi_table *table, double now)
{
    dtlsffi_conn *conn = table->coolest;
    bool recent;

    if (table->warm <= table->warm_at_most)
        return false;
    recent = conn->last_seen > now - LULL;
    unlink_warm(table, conn);
    if (recent)
        link_warm(table, conn);
    else
        (void)dtlsffi_conn_cool(conn);
    return !recent;
}

/* Keeps those few that have buffers without using them. The rest of a long silence is `dtlsffi_table_tidy`'s. */
static void cool_some(dtlsffi_table *table, double now)
{
    if (table->warm <= table->warm_at_most || dtlsffi_is_parents(table->born))
        return;
    pthread_mutex_lock(&table->lock);
    while (cool_one(table, now))
        continue;
    pthread_mutex_unlock(&table->lock);
}

/* Long enough to let other threads run meanwhile: 14 ms where 5,000 had theirs. */
static void give_pages_back(void)
{
    void *gil = dtlsffi_gil_release();

    dtlsffi_malloc_trim();
    dtlsffi_gil_retake(gil);
}

/* Gives back the buffers of those whose peers have been silent `since`; whether others still have theirs. */
int dtlsffi_table_tidy(dtlsffi_table *table, double since)
{
    dtlsffi_conn *conn, *next;
    unsigned cooled = 0;

    if (dtlsffi_is_parents(table->born))
        return 0;
    pthread_mutex_lock(&table->lock);
    for (conn = table->warmest; conn != NULL; conn = next) {
        next = conn->cooler;
        if (conn->last_seen > since)
            continue;
        unlink_warm(table, conn);
        cooled += dtlsffi_conn_cool(conn);
    }
    pthread_mutex_unlock(&table->lock);
    if (cooled >= MANY)
        give_pages_back();
    return table->warmest != NULL;
}

/* Lets a connection in. It has to be removed before it is freed. Returns 0 without memory. */
int dtlsffi_table_put(dtlsffi_table *table, dtlsffi_conn *conn, uint32_t owner)
{
    entry *at;

    if (table->count * 2 >= table->room && !grow(table, table->room * 2))
        return 0;
    at = look_up(table, &conn->address);
    if (at->conn != NULL && at->conn != conn) { /* which nobody would forget otherwise */
        dtlsffi_table_remove(table, at->conn);
        at = look_up(table, &conn->address);
    }
    table->count += at->conn == NULL;
    at->conn = conn;
    at->owner = owner;
    at->hash = hash_of(table, &conn->address);
    conn->table = table;
    return 1;
}

/* A handshake is finished: who has just shaken hands may say nothing for long. */
void dtlsffi_table_settle(dtlsffi_conn *conn, double now)
{
    (void)dtlsffi_conn_seen(conn, now);
    if (conn->table != NULL && !dtlsffi_conn_cool(conn))
        dtlsffi_table_warm(conn);
}

/* Takes a connection out, if it is in; the entries behind it move up. */
void dtlsffi_table_remove(dtlsffi_table *table, dtlsffi_conn *conn)
{
    size_t mask = table->room - 1;
    entry *found = look_up(table, &conn->address);
    size_t hole, i;

    if (found->conn != conn)
        return;
    hole = (size_t)(found - table->entries);
    for (i = (hole + 1) & mask; table->entries[i].conn != NULL; i = (i + 1) & mask) {
        size_t home = table->entries[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            table->entries[hole] = table->entries[i];
            hole = i;
        }
    }
    table->entries[hole].conn = NULL;
    table->count--;
    if (dtlsffi_is_parents(table->born)) {
        conn->table = NULL;
        return;
    }
    pthread_mutex_lock(&table->lock);
    unlink_warm(table, conn);
    conn->table = NULL;
    pthread_mutex_unlock(&table->lock);
}

/* Whether it begins with a plaintext record (epoch 0). */
static bool is_plain(const uint8_t *data, uint32_t length)
{
    return length < DTLSFFI_RECORD_HEADER || ((data[0] & 0xe0) != 0x20 && data[3] == 0 && data[4] == 0);
}

/* Whether the datagram may go straight to its connection. */
static bool is_for(const dtlsffi_conn *conn, const uint8_t *data, uint32_t length, const dtlsffi_batch *batch)
{
    if (conn == NULL)
        return false;
    return conn->established ? !is_plain(data, length) : batch->steps > 0 && !dtlsffi_seems_hello(data, length);
}

static void feed(entry to, const uint8_t *data, uint32_t length, dtlsffi_batch *batch, dtlsffi_inbox *inbox, double now)
{
    const dtlsffi_address *local = &batch->receivers[batch->at];
    bool shaking_hands = !to.conn->established;
    uint32_t before = inbox->count;
    int answer;

    if (shaking_hands)
        batch->steps--;
    answer = dtlsffi_conn_receive_more(to.conn, data, length, inbox);
    for (uint32_t i = before; i < inbox->count; i++)
        inbox->owner[i] = to.owner;
    if (!shaking_hands)
        dtlsffi_table_warm(to.conn);
    if (inbox->count > before) { /* what nobody has signed says nothing of where the peer is */
        to.conn->last_seen = now;
        if (local->family != 0)
            to.conn->local = *local;
    }
    if (answer >= DTLSFFI_MORE)
        batch->unfinished = to.owner + 1;
    if (answer < 0 || to.conn->events != 0 || shaking_hands)
        inbox->odd[inbox->odd_count++] = to.owner;
    if (answer < 0)
        batch->answer = answer;
}

static void leave(dtlsffi_batch *batch, const uint8_t *data, uint32_t length)
{
    dtlsffi_stranger *who = &batch->strangers[batch->stranger_count++];

    who->message = batch->at;
    who->offset = (uint32_t)(data - batch->data[batch->at]);
    who->length = length;
    who->proven = 0;
}

#define CACHE_LINE 64

/* Has the memory of all connections that a batch is for on its way, instead of waiting for each one's in turn. */
static void look_ahead(const dtlsffi_table *table, const dtlsffi_batch *batch)
{
    const entry *at[DTLSFFI_BATCH];

    for (uint32_t i = 0; i < batch->count; i++) {
        at[i] = first(table, hash_of(table, &batch->senders[i]));
        __builtin_prefetch(at[i]);
    }
    for (uint32_t i = 0; i < batch->count; i++)
        for (size_t offset = 0; at[i]->conn != NULL && offset < DTLSFFI_CONN_HOT; offset += CACHE_LINE)
            __builtin_prefetch((const uint8_t *)at[i]->conn + offset);
}

/* The rest of a datagram whose records found no room before. */
static void go_on(dtlsffi_table *table, dtlsffi_batch *batch, dtlsffi_inbox *inbox, double now)
{
    entry *at;

    if (batch->unfinished == 0)
        return;
    at = look_up(table, &batch->senders[batch->at]);
    batch->unfinished = 0;
    if (at->conn != NULL)
        feed(*at, NULL, 0, batch, inbox, now);
}

/* Takes the next datagram. Returns whether there was one, and room for what it may hold. */
static bool take_datagram(dtlsffi_table *table, dtlsffi_udp *udp, dtlsffi_batch *batch, dtlsffi_inbox *inbox,
                          double now)
{
    uint32_t length;
    const uint8_t *data = dtlsffi_batch_look(batch, &length);
    entry *at;

    inbox->more = data != NULL;
    if (data == NULL || !dtlsffi_inbox_has_room_for(inbox, length))
        return false;
    batch->offset += length;
    at = look_up(table, &batch->senders[batch->at]);
    if (is_for(at->conn, data, length, batch))
        feed(*at, data, length, batch, inbox, now);
    else if (batch->stranger_count < DTLSFFI_STRANGERS)
        leave(batch, data, length);
    else
        udp->datagrams_cut++;
    return true;
}

/* Takes the records out of a batch, each with its owner, until it is through, or `inbox` is full or a connection has
 * failed (`more`: see to it and call again). Datagrams that cannot go straight to one become the batch's strangers. */
void dtlsffi_table_harvest(dtlsffi_table *table, dtlsffi_udp *udp, dtlsffi_batch *batch, dtlsffi_inbox *inbox,
                           double now)
{
    inbox->count = inbox->used = inbox->odd_count = 0;
    batch->answer = 0;
    inbox->more = true;
    go_on(table, batch, inbox, now);
    while (batch->unfinished == 0 && batch->answer == 0 && take_datagram(table, udp, batch, inbox, now))
        continue;
    cool_some(table, now);
}

/* Has a batch hold what the socket has: the count of messages, or -errno. */
int dtlsffi_table_receive(const dtlsffi_table *table, dtlsffi_udp *udp, dtlsffi_batch *batch)
{
    int count = dtlsffi_udp_receive(udp, batch);

    if (count > 0)
        look_ahead(table, batch);
    return count;
}
