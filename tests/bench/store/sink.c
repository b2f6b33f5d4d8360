/* sink PORT FOLDER|-   A storage SCP that writes each data set to a file, with fsync, and no more.
 *
 * It accepts whatever is proposed and looks at nothing: the least that a durable server can do, and
 * so what this disk allows. With `-` it discards: what the sender can do.
 */
#include "wire.h"
#include <fcntl.h>
#include <pthread.h>

static const char *folder;
static long files;
enum { MAXIMUM = 131072 };

static void answer_request(int fd, const uint8_t *request, uint32_t n) {
    uint8_t pdu[8192] = {0}, *at = pdu + 74;
    pdu[0] = 2; pdu[7] = 1;
    memcpy(pdu + 10, request + 4, 32);
    at = put_item(at, 0x10, "1.2.840.10008.3.1.1.1", 21);
    for (uint32_t i = 68; i + 4 <= n; i += 4u + big16(request + i + 2)) {
        if (request[i] != 0x20) continue;
        const uint8_t *in = request + i + 8, *end = request + i + 4 + big16(request + i + 2);
        while (in < end && in[0] != 0x40) in += 4 + big16(in + 2);
        uint8_t item[128] = {request[i + 4], 0, 0, 0};
        uint8_t *next = put_item(item + 4, 0x40, in + 4, big16(in + 2));
        at = put_item(at, 0x21, item, (uint16_t)(next - item));
    }
    at = put_user_information(at, MAXIMUM);
    put_big32(pdu + 2, (uint32_t)(at - pdu - 6));
    write_whole(fd, pdu, (size_t)(at - pdu));
}

static const uint8_t *element(const uint8_t *set, uint32_t n, uint16_t wanted, uint32_t *size) {
    for (uint32_t i = 0; i + 8 <= n;) {
        uint32_t bytes = set[i + 4] | set[i + 5] << 8 | set[i + 6] << 16;
        if ((set[i + 2] | set[i + 3] << 8) == wanted) { *size = bytes; return set + i + 8; }
        i += 8 + bytes;
    }
    return NULL;
}

static void respond(int fd, uint8_t context, const uint8_t *set, uint32_t n) {
    uint8_t pdu[512], *start = pdu + 12, *at = start + 12;
    uint32_t size;
    const uint8_t *value = element(set, n, 0x0002, &size);
    at = put_element(at, 0x0002, value, size);
    at = put_us(at, 0x0100, 0x8001);
    value = element(set, n, 0x0110, &size);
    at = put_element(at, 0x0120, value, 2);
    at = put_us(at, 0x0800, 0x0101);
    at = put_us(at, 0x0900, 0);
    value = element(set, n, 0x1000, &size);
    at = put_element(at, 0x1000, value, size);
    close_group(start, at);
    pdu[0] = 4; pdu[1] = 0; put_big32(pdu + 2, (uint32_t)(at - pdu - 6));
    put_big32(pdu + 6, (uint32_t)(at - pdu - 10)); pdu[10] = context; pdu[11] = 3;
    write_whole(fd, pdu, (size_t)(at - pdu));
}

static int new_file(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%ld", folder, __sync_fetch_and_add(&files, 1));
    int file = open(path, O_CREAT | O_WRONLY | O_EXCL, 0644);
    if (file < 0) fail(path);
    return file;
}

static void *serve(void *connection) {
    int fd = (int)(intptr_t)connection, file = -1, discards = folder[0] == '-';
    static __thread uint8_t body[MAXIMUM + 65536], command[1024];
    uint32_t command_size = 0;
    uint8_t head[6];
    no_delay(fd);
    while (!read_whole(fd, head, 6)) {
        uint32_t n = big32(head + 2);
        if (n > sizeof body || read_whole(fd, body, n)) break;
        if (head[0] == 1) { answer_request(fd, body, n); continue; }
        if (head[0] == 5) { uint8_t released[10] = {6, 0, 0, 0, 0, 4}; write_whole(fd, released, 10); continue; }
        if (head[0] != 4) break;
        for (uint32_t i = 0; i + 6 <= n;) {
            uint32_t bytes = big32(body + i) - 2;
            uint8_t context = body[i + 4], control = body[i + 5], *value = body + i + 6;
            if (control & 1) {
                memcpy(command, value, bytes < sizeof command ? bytes : sizeof command);
                command_size = bytes;
            } else {
                if (!discards) {
                    if (file < 0) file = new_file();
                    if (write_whole(file, value, bytes)) fail("write");
                }
                if (control & 2) {
                    if (!discards) { if (fsync(file)) fail("fsync"); close(file); file = -1; }
                    respond(fd, context, command, command_size);
                }
            }
            i += 6 + bytes;
        }
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "see the head of sink.c\n"); return 2; }
    folder = argv[2];
    int door = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 64)) fail("listen");
    for (;;) {
        int fd = accept(door, NULL, NULL);
        if (fd < 0) continue;
        pthread_t thread;
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
}
