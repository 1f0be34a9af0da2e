/* Binding: row CL5 of the bad-input table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net_client.h"

static void handle(void *ctx, oct_http_exchange *x) {
    (void)ctx;
    (void)oct_http_respond(x, 200, "text/plain", oct_str_of(oct_http_request_peer(x)));
}

static oct_status try_bind(const char *host, uint32_t port, const char *uds, oct_http_server **s,
                           uint32_t *got, oct_err *err) {
    *err = (oct_err){0};
    const oct_http_config config = {.host = host,
                                    .port = port,
                                    .uds_path = uds,
                                    .limits = oct_http_limits_default,
                                    .handle = handle};
    return oct_http_server_bind(oct_system_allocator(), &config, s, got, err);
}

static void CL5_ports(void **state) {
    (void)state;
    oct_http_server *s = NULL, *second = NULL;
    uint32_t port = 0, other = 0;
    oct_err err;
    char want[32];
    assert_int_equal(try_bind("127.0.0.1", 0, NULL, &s, &port, &err), OCT_OK);
    assert_in_range(port, 1, 65535);
    snprintf(want, sizeof want, "http://127.0.0.1:%u", port);
    assert_string_equal(oct_http_server_address(s), want);
    assert_int_equal(try_bind("127.0.0.1", port, NULL, &second, &other, &err), OCT_E_IO);
    assert_null(second);
    snprintf(want, sizeof want, "127.0.0.1 port %u", port);
    assert_non_null(strstr(err.text, want));
    assert_non_null(strstr(err.text, "in use"));
    oct_http_server_destroy(s);
    /* free again at once, on every interface too */
    assert_int_equal(try_bind(NULL, port, NULL, &s, &other, &err), OCT_OK);
    assert_int_equal(other, port);
    assert_int_equal(oct_http_server_start(s, &err), OCT_OK);
    const answer a = client_ask(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "127.0.0.1"));
    oct_http_server_destroy(s);
    assert_int_equal(try_bind("127.0.0.1", 70000, NULL, &s, &port, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "70000"));
    assert_int_equal(try_bind("no.such.host.invalid", 0, NULL, &s, &port, &err), OCT_E_INVALID);
    assert_non_null(strstr(err.text, "no.such.host.invalid"));
}

static void names_and_ipv6(void **state) {
    (void)state;
    oct_http_server *s = NULL;
    uint32_t port = 0;
    oct_err err;
    assert_int_equal(try_bind("localhost", 0, NULL, &s, &port, &err), OCT_OK);
    oct_http_server_destroy(s);
    const int probe = socket(AF_INET6, SOCK_STREAM, 0);
    if (probe < 0) {
        print_message("SKIP: no IPv6 here\n");
        return;
    }
    close(probe);
    const oct_status status = try_bind("[::1]", 0, NULL, &s, &port, &err);
    if (status == OCT_OK) {
        assert_int_equal(strncmp(oct_http_server_address(s), "http://[::1]:", 13), 0);
        oct_http_server_destroy(s);
    } else {
        assert_non_null(strstr(err.text, "[::1]"));
        print_message("SKIP: no IPv6 loopback here\n");
    }
}

static int connect_unix(const char *path) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strncpy(addr.sun_path, path, sizeof addr.sun_path - 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static void CL5_unix_sockets(void **state) {
    (void)state;
    char dir[] = "oct_net_XXXXXX", path[64], address[80], too_long[200];
    oct_http_server *s = NULL, *second = NULL;
    uint32_t port = 7;
    oct_err err;
    struct stat st;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/sock", dir);
    assert_int_equal(try_bind(NULL, 0, path, &s, &port, &err), OCT_OK);
    assert_int_equal(port, 0);
    snprintf(address, sizeof address, "unix:%s", path);
    assert_string_equal(oct_http_server_address(s), address);
    assert_int_equal(try_bind(NULL, 0, path, &second, &port, &err), OCT_E_IO); /* live */
    assert_non_null(strstr(err.text, "listening"));
    assert_int_equal(oct_http_server_start(s, &err), OCT_OK);
    const int fd = connect_unix(path);
    client_send_cs(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(client_read(fd, false).body, "unix");
    close(fd);
    oct_http_server_destroy(s);
    assert_int_not_equal(lstat(path, &st), 0); /* tidied up */
    /* stale: bound and closed without removal */
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strncpy(addr.sun_path, path, sizeof addr.sun_path - 1);
    const int old = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(old, (struct sockaddr *)&addr, sizeof addr), 0);
    close(old);
    assert_int_equal(try_bind(NULL, 0, path, &s, &port, &err), OCT_OK);
    oct_http_server_destroy(s);
    /* a plain file stays as it is */
    const int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(file, "keep", 4), 4);
    close(file);
    assert_int_equal(try_bind(NULL, 0, path, &s, &port, &err), OCT_E_IO);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode) && st.st_size == 4);
    unlink(path);
    rmdir(dir);
    memset(too_long, 'a', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    assert_int_equal(try_bind(NULL, 0, too_long, &s, &port, &err), OCT_E_INVALID);
    assert_int_equal(try_bind(NULL, 0, "", &s, &port, &err), OCT_E_INVALID);
}

static void limits_of_zero(void **state) {
    (void)state;
    oct_http_config config = {.host = "127.0.0.1", .limits = oct_http_limits_default};
    oct_http_server *s = NULL;
    uint32_t port;
    oct_err err = {0};
    config.limits.body_bytes = 0;
    assert_int_equal(oct_http_server_bind(oct_system_allocator(), &config, &s, &port, &err),
                     OCT_E_INVALID);
    config.limits = oct_http_limits_default;
    config.limits.header_fields = 1000;
    assert_int_equal(oct_http_server_bind(oct_system_allocator(), &config, &s, &port, &err),
                     OCT_E_INVALID);
}

/* Memory refused at every request in turn: an error, nothing leaked, nothing left bound. */
static void OS5_no_memory(void **state) {
    (void)state;
    oct_http_config config = {
        .host = "127.0.0.1", .limits = oct_http_limits_default, .handle = handle};
    bool started = false;
    for (size_t n = 0; n < 64 && !started; n++) {
        oct_fault_alloc fault;
        oct_http_server *s = NULL;
        uint32_t port;
        oct_fault_alloc_init(&fault, n, 0);
        if (oct_http_server_bind(&fault.allocator, &config, &s, &port, NULL) == OCT_OK)
            started = oct_http_server_start(s, NULL) == OCT_OK && fault.n_requests <= n;
        oct_http_server_destroy(s);
        assert_int_equal(fault.live_blocks, 0);
    }
    assert_true(started);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(CL5_ports),        cmocka_unit_test(names_and_ipv6),
        cmocka_unit_test(CL5_unix_sockets), cmocka_unit_test(limits_of_zero),
        cmocka_unit_test(OS5_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
