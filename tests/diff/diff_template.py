"""Mutants of chat templates: octet and Jinja2 accept the same ones and render the same text."""
import datetime, json, os, re
import jinja2, jinja2.sandbox
from compare import Reason, run
from mutate import mutate_bytes

HERE = os.path.dirname(__file__)
with open(os.path.join(HERE, "..", "data", "template", "vectors.json")) as f:
    VECTORS = json.load(f)
CORPUS = os.path.join(HERE, "..", "..", "fuzz", "corpus", "template")
SOURCES = [case["t"] for case in VECTORS["cases"]]
SOURCES += ["{{ '{:+.2f} {:<06d} {:#x} {!r:>9} {:,} {!a}'.format(2.5, 42, 255, s, big, u) }}",
            "{{ ('%s <b> %-5r'|safe) % (html, '<') ~ ('{:>8}{}'|safe).format(html, n) }}"]
for name in sorted(os.listdir(CORPUS)):
    with open(os.path.join(CORPUS, name), "rb") as f:
        SOURCES += [f.read().decode()] * 3

VARS = dict(VECTORS["vars"], bos_token="<s>", eos_token="</s>", add_generation_prompt=True,
            tools=[{"type": "function", "function": {"name": "f", "description": "<d> & 'e'",
                    "parameters": {"type": "object", "properties": {"x": {"type": "array"}}}}}],
            messages=[{"role": "system", "content": "S "}, {"role": "user", "content": "Hi é"},
                      {"role": "assistant", "content": "", "tool_calls": [
                          {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"x": [1, 2.5, None]}}}]},
                      {"role": "tool", "tool_call_id": "call_1", "content": "t"}, {"role": "user", "content": "Bye"}])
VARS_TEXT = json.dumps(VARS).encode()

TOKENS = [t.encode() for t in """{{ }} {% %} {%- -%} {{- -}} {# #} {%+ +%} ( ) [ ] { } , : . | ~ + - * / // % ** == != < <= > >= = not and or in is if
 else elif endif for endfor set endset macro endmacro filter endfilter loop loop.index loop.last loop.first loop.index0 loop.length loop.previtem loop.nextitem
 none true false None True 0 1 -1 2 10 1.5 1e3 '' 'a' "b" '\\n' 'é' x s e u ws lst strs d n z f big neg t fl no nest html ml mixed messages
 tools m message content role namespace range length trim upper lower tojson join first last default d.a d.b[0] d['c'] lst[0] lst[-1] lst[1:]
 s[::-1] s[:3] items() keys() get('a') string int float list sort unique reverse replace('a','b') split(',') strip() startswith('H') title capitalize
 indent safe round abs map selectattr rejectattr attribute dictsort batch slice sum min max groupby defined undefined mapping iterable sequence
 string number boolean callable even odd divisibleby eq ne lt gt raise_exception('e') break continue ns ns.x loopvar with endwith call endcall raw
 endraw do generation include extends block import""".split()] + [b" ", b"\n", b"  ", b"\n\n"]


def mutant(rng, i):
    source = rng.choice(SOURCES)
    if rng.random() < 0.15:
        other = rng.choice(SOURCES)
        source = source[: rng.randrange(len(source) + 1)] + other[rng.randrange(len(other) + 1):]
    text = mutate_bytes(rng, source.encode(), TOKENS)
    return [text.decode("utf-8", "replace").encode(), VARS_TEXT]


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(1700000000).strftime(form)
    return env


def ask(source, variables):
    return environment().from_string(source.decode()).render(**json.loads(variables))


def agree(case, ours, theirs):
    return ours["ok"] == theirs


def both_ok(predicate):
    return lambda case, ours, theirs: "ok" in ours and theirs[0] == "ok" and predicate(ours["ok"], theirs[1])


def theirs_refuses(*words):
    return lambda case, ours, theirs: "ok" in ours and theirs[0] == "error" and any(w in theirs[1] for w in words)


def ours_refuses(*words):
    return lambda case, ours, theirs: theirs[0] == "ok" and any(w in ours.get("error", "") for w in words)


def no_filter(case, ours, theirs):
    named = re.search(r"no filter or test named '(\w+)'", ours.get("error", ""))
    return named is not None and theirs[0] == "ok" and (named[1] in environment().filters or named[1] in environment().tests)


REASONS = [
    Reason("limits", "octet limits steps, output, memory and nesting", ours_refuses("template limit exceeded", "nested too deeply")),
    Reason("unsupported", "octet compiles a subset and refuses by name what is outside it",
           lambda case, ours, theirs: ours.get("status") == "unsupported" and theirs[0] == "ok"),
    Reason("from-json", "octet has from_json, which transformers gives its templates and Jinja2 alone lacks",
           theirs_refuses("No filter named 'from_json'")),
    Reason("append", "in octet a list that the template itself made may grow", theirs_refuses("is unsafe")),
    Reason("repr", "octet prints functions, namespaces and the like without their addresses and classes",
           both_ok(lambda o, t: "<" in t and any(w in t.lower() for w in (" at 0x", "<class", "&lt;class", "'<', 'c', 'l', 'a', 's', 's'")))),
    Reason("markup", "escaped text inside a list or tuple says Markup() in Jinja2", both_ok(lambda o, t: "Markup(" in t)),
    Reason("lazy", "where Jinja2 gives a lazy iterator octet gives a list, and looks at the arguments at once",
           lambda case, ours, theirs: any(w in str(theirs[1]) for w in ("generator", "iterator"))),
    Reason("range", "range() is a list in octet and prints as one", both_ok(lambda o, t: "range(" in t)),
    Reason("identity", "two undefined values are the same one in octet", lambda case, ours, theirs: b"sameas" in case[0] and "ok" in ours),
    Reason("generation", "octet has the generation block, which transformers gives its templates and Jinja2 alone lacks",
           theirs_refuses("unknown tag 'generation'")),
    Reason("dunder", "Jinja2's undefined values have Python's own attributes, which its sandbox then hides", ours_refuses("has no attribute '__")),
    Reason("undefined-key", "Jinja2 takes an undefined value as the key of a dict, octet refuses it", ours_refuses("unhashable type: 'Undefined'")),
    Reason("empty-subscript", "octet refuses x[] when it compiles; Jinja2 looks up the empty tuple", ours_refuses("empty subscript")),
    Reason("no-filter", "octet does not have every filter and test, and refuses by name what it does not have", no_filter),
    Reason("surrogate", "octet refuses half a surrogate pair in a string, which UTF-8 cannot hold; Jinja2 keeps it until the text is encoded",
           lambda case, ours, theirs: theirs[0] == "ok" and "invalid escape in a string" in ours.get("error", "")
           and re.search(rb"\\u[dD][89a-fA-F]|\\U0000[dD][89a-fA-F]", case[0]) is not None),
    Reason("big-integers", "integers of octet are 64 bits wide", ours_refuses("overflow", "integer too large")),
]

if __name__ == "__main__":
    run("template", mutant, ask, agree, REASONS)
