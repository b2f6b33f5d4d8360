/* What the sender and the sink share: whole reads and writes, and numbers of the wire. */
#ifndef WIRE_H
#define WIRE_H
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) { perror(what); exit(1); }

static int read_whole(int fd, void *into, size_t size) {
    char *at = into;
    while (size) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        at += n; size -= (size_t)n;
    }
    return 0;
}

static int write_whole(int fd, const void *from, size_t size) {
    const char *at = from;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        at += n; size -= (size_t)n;
    }
    return 0;
}

static uint32_t big32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static uint16_t big16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static void put_big32(uint8_t *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = v; }
static void put_big16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }
static void put_little32(uint8_t *p, uint32_t v) { p[3] = v >> 24; p[2] = v >> 16; p[1] = v >> 8; p[0] = v; }
static void put_little16(uint8_t *p, uint16_t v) { p[1] = v >> 8; p[0] = v; }

/* An element of a command set (PS3.7 E.1, Implicit VR Little Endian). Returns the next place. */
static uint8_t *put_element(uint8_t *p, uint16_t element, const void *value, uint32_t size) {
    put_little16(p, 0); put_little16(p + 2, element); put_little32(p + 4, size);
    memcpy(p + 8, value, size);
    return p + 8 + size;
}
static uint8_t *put_us(uint8_t *p, uint16_t element, uint16_t value) {
    uint8_t v[2]; put_little16(v, value);
    return put_element(p, element, v, 2);
}
static void close_group(uint8_t *start, const uint8_t *end) {
    put_little16(start, 0); put_little16(start + 2, 0); put_little32(start + 4, 4);
    put_little32(start + 8, (uint32_t)(end - start - 12));
}
/* An item of an association PDU (PS3.8 9.3). Returns the next place. */
static uint8_t *put_item(uint8_t *p, uint8_t type, const void *value, uint16_t size) {
    p[0] = type; p[1] = 0; put_big16(p + 2, size);
    memcpy(p + 4, value, size);
    return p + 4 + size;
}
static uint8_t *put_user_information(uint8_t *p, uint32_t maximum) {
    uint8_t value[128], *at = value, length[4];
    put_big32(length, maximum);
    at = put_item(at, 0x51, length, 4);
    at = put_item(at, 0x52, "1.2.826.0.1.3680043.10.1999.9", 29);
    return put_item(p, 0x50, value, (uint16_t)(at - value));
}
static void no_delay(int fd) { int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); }
#endif
