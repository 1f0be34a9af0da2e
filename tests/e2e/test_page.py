"""The page at "/" in a real browser: chatting, stopping, settings, Markdown, live figures, without a mouse, in both colour schemes."""
import json
import re
import sys
import unittest

import browser
from harness import Case, Server, main

FILES = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript", "/page_markdown.js": "text/javascript"}

# What Markdown becomes. Whatever is written, no element comes out that is not made here.
MARKDOWN = [
    ("# One\ntwo *three* **four** `five`", "<h3>One</h3><p>two <em>three</em> <strong>four</strong> <code>five</code></p>"),
    ("```c\nint a = 1 < 2;\n```\nafter", '<pre><code data-language="c">int a = 1 &lt; 2;</code></pre><p>after</p>'),
    ("```\nnever closed\n\n# x", "<pre><code>never closed\n\n# x</code></pre>"),
    ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("| a | b |\n|---|---|\n| 1 | *2* |", "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><em>2</em></td></tr></tbody></table>"),
    ("> a\n> b\n\n---", "<blockquote><p>a\nb</p></blockquote><hr>"),
    ("<img src=x onerror=alert(1)> <b>x</b>", "<p>&lt;img src=x onerror=alert(1)&gt; &lt;b&gt;x&lt;/b&gt;</p>"),
    ("[x](javascript:alert(1)) snake_case_name 2*3*4 a * b", "<p>[x](javascript:alert(1)) snake_case_name 2<em>3</em>4 a * b</p>"),
    ("[x](https://a.b/c)", '<p><a href="https://a.b/c" rel="noreferrer noopener" target="_blank">x</a></p>'),
]


class Files(Case):
    def test_files_and_what_a_browser_may_do(self):
        for path, kind in FILES.items():
            status, headers, body = self.server.request("GET", path)
            self.assertEqual(status, 200, path)
            self.assertTrue(headers["content-type"].startswith(kind), path)
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertGreater(len(body), 500)

    def test_nothing_is_fetched_from_elsewhere(self):
        for path in FILES:
            text = self.server.request("GET", path)[2].decode()
            self.assertFalse(re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", text), path)


@unittest.skipIf(browser.missing(), browser.missing())
class Page(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.b = browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.b.close()
        super().tearDownClass()

    def open(self, server=None):
        self.b.go(f"http://127.0.0.1:{(server or self.server).port}/")
        self.b.script("localStorage.clear()")
        self.b.go(f"http://127.0.0.1:{(server or self.server).port}/")
        self.b.wait("return document.querySelector('#model').options.length > 0 || document.querySelector('#status').innerText")

    def answered(self, n):
        return self.b.wait(f"const a = document.querySelectorAll('article.assistant'); return a.length == {n} && !a[{n - 1}].ariaBusy && "
                           f"a[{n - 1}].querySelector('footer button') && a[{n - 1}].innerText", what=f"answer {n}")

    def test_chat_with_the_keyboard_alone(self):
        self.open()
        self.assertEqual(self.b.script("return document.activeElement.id"), "prompt")
        self.b.script("for (const [k, v] of [['max_tokens', '12'], ['temperature', '0'], ['seed', '1']])"
                      "{ document.querySelector('#' + k).value = v }")
        self.b.write("#prompt", "Hello <b>you</b>")
        self.b.press("enter")
        first = self.answered(1)
        self.assertIn("12 tokens", first)
        self.assertEqual(self.b.script("return document.querySelectorAll('article b').length"), 0)
        self.assertEqual(self.b.script("return document.activeElement.id"), "prompt")
        self.b.write("#prompt", "Again")
        self.b.press("shift", "enter")
        self.assertEqual(self.b.script("return document.querySelector('#prompt').value"), "Again\n")
        self.b.press("enter")
        self.answered(2)
        self.assertEqual(self.b.script("return talk.map((m) => m.role)"), ["user", "assistant"] * 2)
        _, asked = self.server.chat(messages=[{"role": "user", "content": "Hello <b>you</b>"}], max_tokens=12, temperature=0, seed=1)
        self.assertEqual(self.b.script("return talk[1].content"), asked["choices"][0]["message"]["content"])

    def test_stop(self):
        self.open()
        self.b.script("""
            window.fetch = async (url, how) => new Response(new ReadableStream({start(out) {
              const piece = new TextEncoder().encode('data: {"choices": [{"delta": {"content": "word "}}]}\\n\\n');
              const timer = setInterval(() => out.enqueue(piece), 20);
              how.signal.addEventListener('abort', () => { clearInterval(timer); out.error(new DOMException('', 'AbortError')) });
            }}))""")
        for stop in (lambda: self.b.press("escape"), lambda: self.b.click("#stop")):
            self.b.click("#new")
            self.b.write("#prompt", "Tell me everything")
            self.b.press("enter")
            self.b.wait("return /word word/.test(document.querySelector('article.assistant')?.innerText)")
            self.assertTrue(self.b.script("return document.querySelector('#send').hidden"))
            stop()
            self.b.wait("return document.querySelector('#status').innerText == 'Stopped.'")
            self.assertTrue(self.b.script("return document.querySelector('#stop').hidden"))
            self.assertRegex(self.b.script("return talk[1].content"), "^(word )+$")

    def test_settings_are_kept_and_sent(self):
        self.open()
        self.b.click("#show-settings")
        self.assertEqual(self.b.script("return document.querySelector('#show-settings').ariaExpanded"), "true")
        self.b.write("#temperature", "0.5")
        self.b.write("#system", "Be short.")
        self.b.press("tab")
        body = self.b.script("talk = [{role: 'user', content: 'x'}]; return requestBody()")
        self.assertEqual((body["temperature"], body["messages"][0]), (0.5, {"role": "system", "content": "Be short."}))
        self.assertNotIn("top_p", body)
        self.b.go(f"http://127.0.0.1:{self.server.port}/")
        self.assertEqual(self.b.script("return document.querySelector('#temperature').value"), "0.5")

    def test_a_refusal_is_told_and_the_message_comes_back(self):
        self.open()
        self.b.script("document.querySelector('#top_p').value = '7'")
        self.b.write("#prompt", "Hi")
        self.b.press("enter")
        told = self.b.wait("const s = document.querySelector('#status'); return s.classList.contains('wrong') && s.innerText")
        self.assertIn("top_p", told)
        self.assertEqual(self.b.script("return [document.querySelector('#prompt').value, talk.length]"), ["Hi", 0])

    def test_live_figures(self):
        self.open()
        self.b.wait("return /tokens.s/.test(document.querySelector('#live-out').innerText)")
        self.assertRegex(self.b.text("#live-kv"), r"^\d+\.\d %$")
        for _ in range(3):
            self.server.complete(prompt="a", max_tokens=20, ignore_eos=True)
        self.b.wait("return rates.some((r) => r > 0)", what="tokens a second")
        self.assertEqual(self.b.text("#live-waiting"), "0")

    def test_both_colour_schemes(self):
        self.open()
        ground = "return getComputedStyle(document.body).backgroundColor"
        seen = [self.b.script(ground)]
        for _ in range(2):
            self.b.click("#theme")
            seen.append(self.b.script(ground))
        self.assertEqual(seen[0], seen[2])
        self.assertNotEqual(seen[0], seen[1])

    def test_markdown(self):
        self.open()
        for text, html in MARKDOWN:
            got = self.b.script("const d = document.createElement('div'); d.append(...markdown(arguments[0])); return d.innerHTML", text)
            for attribute in ("href", "rel", "target"):
                self.assertEqual(got.count(attribute + "="), html.count(attribute + "="), text)
            self.assertEqual(got, html, text)

    def test_every_control_is_named_and_reachable(self):
        self.open()
        self.b.click("#show-settings")
        bare = self.b.script("return [...document.querySelectorAll('button, input, select, textarea')].filter((e) =>"
                             " !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).map((e) => e.id)")
        self.assertEqual(bare, [])
        self.b.script("document.querySelector('#model').focus()")
        reached = set()
        for _ in range(24):
            reached.add(self.b.script("return document.activeElement.id"))
            self.b.press("tab")
        self.assertLessEqual({"model", "new", "show-settings", "theme", "temperature", "key", "prompt", "send"}, reached)

    def test_with_a_key(self):
        server = Server("--api-key", "secret")
        try:
            self.open(server)
            self.assertIn("API key", self.b.text("#status"))
            self.assertEqual(self.b.script("return document.activeElement.id"), "key")
            self.b.write("#key", "secret")
            self.b.press("tab")
            self.b.wait("return document.querySelector('#model').options.length > 0")
        finally:
            server.stop()

    def test_nothing_went_elsewhere_or_wrong(self):
        self.open()
        self.b.wait("return /%/.test(document.querySelector('#live-kv').innerText)")
        sent = [json.loads(e["message"])["message"] for e in self.b.log("performance")]
        urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
        ours = ("http://127.0.0.1:", "data:", "blob:", "chrome")
        self.assertTrue(urls)
        self.assertEqual([u for u in urls if not u.startswith(ours)], [])


if __name__ == "__main__":
    if browser.missing():
        print(f"SKIP of what needs a browser: {browser.missing()}", file=sys.stderr)
    main()
