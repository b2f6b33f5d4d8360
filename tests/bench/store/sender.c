/* sender PORT CALLED_AE ASSOCIATIONS COUNT_EACH DATA_SET SOP_CLASS SYNTAX OFFSET LENGTH FIRST
 *
 * Sends one data set COUNT_EACH times on each association, each time with a SOP Instance UID of its
 * own: its value is LENGTH bytes at OFFSET of the data set and ends in ten digits that count from
 * FIRST. Each message is one write, made up beforehand. Prints `instances seconds failures`, from
 * when all associations stand to the last response.
 */
#include "wire.h"
#include <pthread.h>
#include <time.h>

static int port, associations, count;
static const char *called, *sop_class, *syntax;
static uint8_t *data; static size_t size, offset, length; static long first;
static pthread_barrier_t ready;
static int failures;

struct message { uint8_t *bytes; size_t size; uint8_t *command_uid, *data_uid, *id; };

static uint8_t *put_uid(uint8_t *p, uint16_t element, const char *uid) {
    char padded[66] = {0};
    size_t n = strlen(uid);
    memcpy(padded, uid, n);
    return put_element(p, element, padded, (uint32_t)(n + n % 2));
}

static int associate(uint32_t *maximum) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    no_delay(fd);
    uint8_t pdu[1024] = {0}, item[256], *at = pdu + 74, *in = item;
    pdu[0] = 1; pdu[7] = 1;
    memset(pdu + 10, ' ', 32);
    memcpy(pdu + 10, called, strlen(called)); memcpy(pdu + 26, "BENCH", 5);
    at = put_item(at, 0x10, "1.2.840.10008.3.1.1.1", 21);
    in[0] = 1; in[1] = in[2] = in[3] = 0; in += 4;
    in = put_item(in, 0x30, sop_class, (uint16_t)strlen(sop_class));
    in = put_item(in, 0x40, syntax, (uint16_t)strlen(syntax));
    at = put_item(at, 0x20, item, (uint16_t)(in - item));
    at = put_user_information(at, 16384);
    put_big32(pdu + 2, (uint32_t)(at - pdu - 6));
    if (write_whole(fd, pdu, (size_t)(at - pdu))) fail("association request");
    uint8_t head[6];
    if (read_whole(fd, head, 6)) fail("association answer");
    uint32_t n = big32(head + 2);
    uint8_t *answer = malloc(n);
    if (read_whole(fd, answer, n) || head[0] != 2) { fprintf(stderr, "not accepted (%d)\n", head[0]); exit(1); }
    *maximum = 16384;
    for (uint32_t i = 68; i + 4 <= n;) {
        if (answer[i] == 0x50) { i += 4; continue; }
        if (answer[i] == 0x51) *maximum = big32(answer + i + 4);
        if (answer[i] == 0x21 && answer[i + 6]) { fprintf(stderr, "context refused\n"); exit(1); }
        i += 4u + big16(answer + i + 2);
    }
    free(answer);
    if (!*maximum || *maximum > 1 << 20) *maximum = 1 << 20;
    return fd;
}

static struct message compose(uint32_t maximum) {
    char uid[80] = {0};
    memcpy(uid, data + offset, length);
    uint8_t command[512], *at = command + 12;
    at = put_uid(at, 0x0002, sop_class);
    at = put_us(at, 0x0100, 1);
    uint8_t *id = at + 8;
    at = put_us(at, 0x0110, 1);
    at = put_us(at, 0x0700, 0);
    at = put_us(at, 0x0800, 0);
    uint8_t *command_uid = at + 8;
    at = put_uid(at, 0x1000, uid);
    close_group(command, at);
    size_t command_size = (size_t)(at - command), room = maximum - 6;
    struct message m = {.bytes = malloc(command_size + size + 12 * (size / room + 3))};
    uint8_t *p = m.bytes;
    p[0] = 4; p[1] = 0; put_big32(p + 2, (uint32_t)command_size + 6);
    put_big32(p + 6, (uint32_t)command_size + 2); p[10] = 1; p[11] = 3;
    memcpy(p + 12, command, command_size);
    m.command_uid = p + 12 + (command_uid - command); m.id = p + 12 + (id - command);
    p += 12 + command_size;
    for (size_t sent = 0; sent < size;) {
        size_t n = size - sent < room ? size - sent : room;
        p[0] = 4; p[1] = 0; put_big32(p + 2, (uint32_t)n + 6);
        put_big32(p + 6, (uint32_t)n + 2); p[10] = 1; p[11] = sent + n == size ? 2 : 0;
        memcpy(p + 12, data + sent, n);
        if (offset >= sent && offset + length <= sent + n) m.data_uid = p + 12 + offset - sent;
        p += 12 + n; sent += n;
    }
    m.size = (size_t)(p - m.bytes);
    if (!m.data_uid) { fprintf(stderr, "the UID lies across two PDUs\n"); exit(1); }
    return m;
}

static int status_of(int fd) {
    uint8_t head[6], body[4096];
    if (read_whole(fd, head, 6)) fail("response");
    uint32_t n = big32(head + 2);
    if (head[0] != 4 || n > sizeof body || read_whole(fd, body, n)) { fprintf(stderr, "PDU %d\n", head[0]); exit(1); }
    for (uint32_t i = 6; i + 10 <= n;) {
        uint32_t bytes = body[i + 4] | body[i + 5] << 8 | body[i + 6] << 16;
        if (!body[i] && !body[i + 1] && !body[i + 2] && body[i + 3] == 9) return body[i + 8] | body[i + 9] << 8;
        i += 8 + bytes;
    }
    return -1;
}

static void *run(void *number) {
    uint32_t maximum;
    int fd = associate(&maximum);
    struct message m = compose(maximum);
    long next = first + (long)(intptr_t)number * count;
    pthread_barrier_wait(&ready);
    for (int i = 0; i < count; i++) {
        char digits[11];
        snprintf(digits, sizeof digits, "%010ld", next++);
        memcpy(m.command_uid + length - 10, digits, 10);
        memcpy(m.data_uid + length - 10, digits, 10);
        put_little16(m.id, (uint16_t)(i + 1));
        if (write_whole(fd, m.bytes, m.size)) fail("store");
        if (status_of(fd)) __sync_fetch_and_add(&failures, 1);
    }
    uint8_t release[10] = {5, 0, 0, 0, 0, 4}, answer[10];
    pthread_barrier_wait(&ready);
    if (write_whole(fd, release, 10) || read_whole(fd, answer, 10)) fail("release");
    close(fd);
    return NULL;
}

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (double)t.tv_sec + (double)t.tv_nsec / 1e9; }

int main(int argc, char **argv) {
    if (argc != 11) { fprintf(stderr, "see the head of sender.c\n"); return 2; }
    port = atoi(argv[1]); called = argv[2]; associations = atoi(argv[3]); count = atoi(argv[4]);
    sop_class = argv[6]; syntax = argv[7];
    offset = strtoul(argv[8], NULL, 10); length = strtoul(argv[9], NULL, 10); first = atol(argv[10]);
    FILE *file = fopen(argv[5], "rb");
    if (!file) fail(argv[5]);
    fseek(file, 0, SEEK_END); size = (size_t)ftell(file); rewind(file);
    data = malloc(size);
    if (fread(data, 1, size, file) != size) fail(argv[5]);
    fclose(file);
    pthread_barrier_init(&ready, NULL, (unsigned)associations + 1);
    pthread_t threads[64];
    for (intptr_t i = 0; i < associations; i++) pthread_create(&threads[i], NULL, run, (void *)i);
    pthread_barrier_wait(&ready);
    double begun = now();
    pthread_barrier_wait(&ready);
    double ended = now();
    for (int i = 0; i < associations; i++) pthread_join(threads[i], NULL);
    printf("%d %.6f %d\n", associations * count, ended - begun, failures);
    return 0;
}
