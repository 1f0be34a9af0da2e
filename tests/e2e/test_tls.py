"""HTTPS: files that can and cannot be used, versions, handshakes that fail, clients' certificates."""
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import unittest

from harness import FOLDER, PATIENCE, Case, Server, in_parallel, main, run_serve, story_from, tiny_model

OPENSSL = shutil.which("openssl")
HERE = os.path.join(FOLDER, "tls")


def openssl(*args):
    subprocess.run([OPENSSL, *args], check=True, capture_output=True, cwd=HERE)


def make_files():
    """An authority, a server's certificate for localhost, a client's, and files that are wrong."""
    if os.path.exists(HERE):
        return
    os.mkdir(HERE)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=octet test")
    for name in ("server", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        with open(os.path.join(HERE, "ext"), "w", encoding="ascii") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", "ext")
    openssl("genrsa", "-aes128", "-passout", "pass:secret", "-out", "locked.key", "2048")
    with open(file("both.pem"), "wb") as f:
        for name in ("server.pem", "server.key"):
            with open(file(name), "rb") as g:
                f.write(g.read())
    with open(file("not.pem"), "w", encoding="ascii") as f:
        f.write("hello\n")


def file(name):
    return os.path.join(HERE, name)


def client(client_cert=False, **how):
    c = ssl.create_default_context(cafile=file("ca.pem"))
    if client_cert:
        c.load_cert_chain(file("client.pem"), file("client.key"))
    for k, v in how.items():
        setattr(c, k, v)
    return c


def setUpModule():
    if not OPENSSL:
        raise unittest.SkipTest("no openssl to make certificates with")
    make_files()


class Https(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--ssl-certfile", file("server.pem"), "--ssl-keyfile", file("server.key"),
                            "--header-timeout", "1", "--keep-alive-timeout", "2", tls=client())

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log_text()[-2000:]

    def tearDown(self):
        self.assertIsNone(self.server.process.poll())
        self.assertEqual(self.server.ask_known(), self.server.known)

    def handshake(self, context=None, **how):
        raw = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)
        try:
            return (context or client(**how)).wrap_socket(raw, server_hostname="localhost")
        except BaseException:
            raw.close()
            raise

    def test_answers_and_streams(self):
        s = self.server
        self.assertEqual(s.complete(prompt="a", max_tokens=5, temperature=0)[1]["choices"][0]["text"], story_from("a", 5))
        events = s.events("/v1/completions", {"prompt": "a", "max_tokens": 300, "temperature": 0})
        text = "".join(e["choices"][0]["text"] for e in events[:-1])
        self.assertGreater(len(text), 200)  # some characters are several tokens
        self.assertEqual(text, story_from("a", len(text)))
        long = "the a" * 5000  # several records
        status, body = s.post("/tokenize", {"prompt": long})
        self.assertEqual((status, s.post("/detokenize", {"tokens": body["tokens"]})[1]["prompt"]), (200, long))

    def test_versions_and_protocols(self):
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            with self.handshake(minimum_version=version, maximum_version=version) as c:
                self.assertEqual(c.version(), name)
        both = client()
        both.set_alpn_protocols(["h2", "http/1.1"])
        with self.handshake(both) as c:
            self.assertEqual(c.selected_alpn_protocol(), "http/1.1")
        only = client()
        only.set_alpn_protocols(["h2"])
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            self.handshake(only)
        with self.assertRaises(ssl.SSLCertVerificationError):  # no authority that it knows
            self.handshake(ssl.create_default_context())

    def test_keep_alive_and_pipelining(self):
        c = self.server.connect()
        for _ in range(20):
            c.request("GET", "/health")
            self.assertEqual(c.getresponse().read(), b'{"status":"ok"}')
        c.close()
        with self.handshake() as c:
            c.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            got = b""
            while got.count(b'{"version"') < 3:
                got += c.recv(65536)

    def test_many_at_once(self):
        def ask():
            return self.server.complete(prompt="a", max_tokens=8, temperature=0)[1]["choices"][0]["text"]
        self.assertEqual(set(in_parallel([ask] * 24)), {story_from("a", 8)})

    def test_bad_handshakes(self):
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for bytes_ in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"\1" * 70000,
                       hello + b"\0" * 600, os.urandom(5000), b"\x15\x03\x01\x00\x02\x02\x28", b""):
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE) as c:
                got = b""
                try:
                    c.sendall(bytes_)
                    if not bytes_:
                        c.shutdown(socket.SHUT_WR)
                    while True:
                        piece = c.recv(65536)
                        if not piece:
                            break
                        got += piece
                except ConnectionError:
                    pass
            self.assertNotIn(b"HTTP/", got)

    def test_a_handshake_that_never_ends(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE) as c:
            c.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            begin = time.monotonic()
            try:
                self.assertEqual(c.recv(100), b"")
            except ConnectionError:
                pass
            self.assertLess(time.monotonic() - begin, 20)

    def test_a_client_that_leaves(self):
        s = self.server
        for _ in range(5):
            c = self.handshake()
            body = json.dumps({"prompt": "a", "max_tokens": 30000, "ignore_eos": True, "stream": True})
            c.sendall((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
            self.assertTrue(c.recv(1000).startswith(b"HTTP/1.1 200"))
            c.close()
        s.wait_idle(PATIENCE)

    def test_the_end_is_told(self):
        with self.handshake() as c:
            c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = b""
            while True:  # an end without close_notify would be an error here
                piece = c.recv(65536)
                if not piece:
                    break
                got += piece
            self.assertTrue(got.endswith(b'{"status":"ok"}'))


class OneFileAndIPv6(unittest.TestCase):
    def test_certificate_and_key_in_one_file(self):
        server = Server("--ssl-certfile", file("both.pem"), tls=client())
        self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertEqual(server.stop(), 0)

    def test_ipv6_literal(self):
        try:
            with socket.socket(socket.AF_INET6) as s:
                s.bind(("::1", 0))
        except OSError:
            self.skipTest("no IPv6 here")
        for host in ("::1", "[::1]"):
            server = Server("--ssl-certfile", file("both.pem"), host=host, env={"NOTHING": "1"})
            c = http.client.HTTPSConnection("::1", server.port, timeout=PATIENCE, context=client())
            c.request("GET", "/health")
            self.assertEqual(c.getresponse().status, 200)
            c.close()
            self.assertEqual(server.stop(), 0)


class Limit(unittest.TestCase):
    def test_too_many_connections_are_closed(self):
        server = Server("--ssl-certfile", file("both.pem"), "--max-connections", "2", tls=client(), env={"A": "1"})
        held = []
        for _ in range(2):
            c = server.connect()
            c.connect()
            held.append(c)
        with self.assertRaises(OSError):
            server.request("GET", "/health")
        held[0].request("GET", "/health")
        self.assertEqual(held[0].getresponse().status, 200)
        for c in held:
            c.close()
        self.assertEqual(server.stop(), 0)


class ClientCertificates(unittest.TestCase):
    def test_wanted(self):
        server = Server("--ssl-certfile", file("both.pem"), "--ssl-ca-certs", file("ca.pem"), "--ssl-cert-reqs", "2",
                        tls=client(True))
        try:
            self.assertEqual(server.request("GET", "/health")[0], 200)
            server.tls = client()
            with self.assertRaises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                server.request("GET", "/health")
        finally:
            self.assertEqual(server.stop(), 0)

    def test_taken(self):
        server = Server("--ssl-certfile", file("both.pem"), "--ssl-ca-certs", file("ca.pem"), "--ssl-cert-reqs", "1",
                        tls=client())
        self.assertEqual(server.request("GET", "/health")[0], 200)
        server.tls = client(True)
        self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertEqual(server.stop(), 0)


class Files(unittest.TestCase):
    def refused(self, *args_words):
        args, words = args_words[:-1], args_words[-1]
        r = run_serve(tiny_model(), "--port", "0", *args)
        self.assertEqual(r.returncode, 2, r.stderr)
        last = r.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("octet: error: --ssl-"), last)
        for w in words:
            self.assertIn(w, last)

    def test_refusals(self):
        good, key = ["--ssl-certfile", file("server.pem")], ["--ssl-keyfile", file("server.key")]
        self.refused("--ssl-certfile", "/nonexistent", ["--ssl-certfile: /nonexistent", "No such file"])
        self.refused(*good, "--ssl-keyfile", "/nonexistent", ["--ssl-keyfile: /nonexistent"])
        self.refused("--ssl-certfile", file("not.pem"), *key, ["--ssl-certfile", "PEM"])
        self.refused(*good, "--ssl-keyfile", file("not.pem"), ["--ssl-keyfile", "PEM"])
        self.refused(*good, "--ssl-keyfile", file("client.key"), ["--ssl-keyfile"])
        self.refused(*good, "--ssl-keyfile", file("locked.key"), ["password"])
        self.refused(*good, ["--ssl-keyfile"])  # the file holds no key
        self.refused(*key, ["--ssl-keyfile: wants --ssl-certfile"])
        self.refused(*good, *key, "--ssl-cert-reqs", "2", ["--ssl-ca-certs"])
        self.refused(*good, *key, "--ssl-ca-certs", file("not.pem"), ["--ssl-ca-certs"])
        self.refused(*good, *key, "--ssl-ciphers", "nothing-known", ["--ssl-ciphers"])


if __name__ == "__main__":
    main()
