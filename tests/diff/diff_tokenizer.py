"""Mutants of small tokenizer.json files: octet and the tokenizers package accept the same ones and give the same ids and texts."""
import json, os
import tokenizers
from compare import Reason, run
from mutate import dumps, mutate_bytes, mutate_json

DATA = os.path.join(os.path.dirname(__file__), "..", "data", "tokenizer")
TEXTS = ["", "hello world", "  two  blanks \n\n and\tlines\r\n", "I'm we'LL x's 12345 3.14", "é e\u0301 ﬁ Ａ ½", "中文字 日本語",
         "😀👨\u200d👩", "<s> </s><|end|> <mask> a<word>b <word> <r>  x", "\0\x7f\u2581\u00a0\u3000", "ab" * 40,
         "<0x41><unk>▁the", "aaaaaaaaaaaaaaaaaaaa"]
PIECES = [" ", "\n", "a", "e", "th", "the", "in", "é", "中", "😀", "'s", "1", "99", ".", "<s>", "<mask>", "▁", "\u0301", "\t", "X"]


def without_gap(value):
    """Added tokens directly behind the vocabulary, as the reference numbers them."""
    n, last = len(value["model"]["vocab"]), max(t["id"] for t in value["added_tokens"])
    shift = min([t["id"] for t in value["added_tokens"] if t["id"] >= n], default=n) - n

    def moved(v, key=None):
        if isinstance(v, dict):
            return {k: moved(x, k) for k, x in v.items()}
        if isinstance(v, list):
            return [moved(x, key) for x in v]
        return v - shift if key in ("id", "ids") and isinstance(v, int) and n <= v <= last else v

    return {k: (moved(v) if k != "model" else v) for k, v in value.items()}


BASES = []
for folder in ("bytes", "pieces"):
    with open(os.path.join(DATA, folder, "tokenizer.json"), encoding="utf-8") as f:
        BASES.append(json.dumps(without_gap(json.load(f)), ensure_ascii=False).encode())

PARTS = {
    "normalizer": [None, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"},
                   {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Prepend", "prepend": "▁"},
                   {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                   {"type": "Replace", "pattern": {"Regex": " +"}, "content": "_"},
                   {"type": "Sequence", "normalizers": []}, {"type": "StripAccents"}, {"type": "Nmt"}],
    "pre_tokenizer": [None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                      {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False},
                      {"type": "Split", "pattern": {"Regex": "\\s+|\\p{L}+"}, "behavior": "Isolated", "invert": False},
                      {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithNext", "invert": False},
                      {"type": "Split", "pattern": {"Regex": "\\d"}, "behavior": "Removed", "invert": False},
                      {"type": "Digits", "individual_digits": True}, {"type": "Whitespace"}, {"type": "Punctuation"},
                      {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                      {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
                      {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
                      {"type": "Sequence", "pretokenizers": []}],
    "decoder": [None, {"type": "ByteLevel"}, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                  {"type": "ByteFallback"}, {"type": "Fuse"},
                                                  {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                {"type": "Fuse"}, {"type": "ByteFallback"}],
    "post_processor": [None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                       {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "T", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                        "special_tokens": {"T": {"id": "T", "ids": [1], "tokens": ["<s>"]}}},
                       {"type": "Sequence", "processors": []}],
}
FLAGS = ("ignore_merges", "byte_fallback", "fuse_unk", "unk_token", "dropout", "continuing_subword_prefix", "end_of_word_suffix")


def outside_lists(box, key):
    """Not one of the thousands of tokens and merges: those get their turn too, but are most of the file."""
    return not (isinstance(box, dict) and len(box) > 40) and not (isinstance(box, list) and (len(box) > 40 or isinstance(box[key], str)))


def mutant(rng, i):
    text = rng.choice(BASES)
    kind = rng.randrange(10)
    if kind == 0:
        text = mutate_bytes(rng, text)
    else:
        value = json.loads(text)
        if kind < 4:
            for part in rng.sample(list(PARTS), rng.choice((1, 1, 2))):
                value[part] = rng.choice(PARTS[part])
        if kind == 4:
            name = rng.choice(FLAGS)
            value["model"][name] = rng.choice((True, False, None, "", "<unk>", "##", 0, 0.0, 0.5))
        if kind == 5:
            for token in rng.sample(value["added_tokens"], min(3, len(value["added_tokens"]))):
                name = rng.choice(("single_word", "lstrip", "rstrip", "normalized", "special"))
                token[name] = not token[name]
        if kind == 6:
            token = dict(rng.choice(value["added_tokens"]))
            token.update(id=rng.choice((token["id"], token["id"] + 1, 300, 5)), content=rng.choice((*PIECES, token["content"])))
            value["added_tokens"].append(token)
        if kind > 6 or rng.random() < 0.2:
            value = mutate_json(rng, value, prefer=outside_lists)
        text = dumps(rng, value)
    texts = [*rng.sample(TEXTS, 5), "".join(rng.choice(PIECES) for _ in range(rng.randrange(30)))]
    return [text, json.dumps(texts).encode()]


def ask(text, texts):
    tok = tokenizers.Tokenizer.from_str(text.decode())
    result = []
    for one in json.loads(texts):
        try:
            ids = tok.encode(one).ids
        except BaseException as e:
            result.append(f"{type(e).__name__}: {e}")
            continue
        result.append([ids, tok.decode(ids, skip_special_tokens=False)])
    return result


def agree(case, ours, theirs):
    return all(type(o) is type(t) and (isinstance(o, str) or o == t) for o, t in zip(ours["ok"], theirs))


def read(case):
    try:
        return json.loads(case[0])
    except ValueError:
        return {}


def renumbered(case, ours, theirs):
    """Added tokens to which the reference gives another id than the file does."""
    try:
        value = read(case)
        vocab, given = dict(value["model"]["vocab"]), {}
        for token in value["added_tokens"]:
            content = token["content"]
            top = max(given.values(), default=-1)
            right = given.get(content, vocab.get(content, max(top + 1, len(vocab))))
            given[content] = right
            if token["id"] != right or not content:
                return theirs[0] == "ok"
        return False
    except (KeyError, TypeError, AttributeError):
        return False


def normalized_added(case, ours, theirs):
    value = read(case)
    return "ok" in ours and theirs[0] == "ok" and any(t.get("normalized") for t in value["added_tokens"]) and \
        value["normalizer"] is not None and all(o[0] == t[0] for o, t in zip(ours["ok"], theirs[1]))


def unk_order(case, ours, theirs):
    model = read(case)["model"]
    unk = dict(model["vocab"]).get(model.get("unk_token"))
    lacks = any(f"<0x{b:02X}>" not in model["vocab"] for b in range(256))
    if "ok" not in ours or theirs[0] != "ok" or not model.get("byte_fallback") or not lacks:
        return False
    return all([i for i in o[0] if i != unk] == [i for i in t[0] if i != unk] for o, t in zip(ours["ok"], theirs[1]))


def blank_token(case, ours, theirs):
    return "ok" in ours and theirs[0] == "ok" and any(t["content"] != t["content"].strip() and (t["lstrip"] or t["rstrip"])
                                                      for t in read(case)["added_tokens"])


def untyped_model(case, ours, theirs):
    model = read(case).get("model")
    return "error" in ours and theirs[0] == "ok" and isinstance(model, dict) and "type" not in model


def theirs_refuses(*words):
    return lambda case, ours, theirs: "ok" in ours and theirs[0] == "error" and any(w in theirs[1] for w in words)


def ours_refuses(*words):
    return lambda case, ours, theirs: theirs[0] == "ok" and any(w in ours.get("error", "") for w in words)


REASONS = [
    Reason("unsupported", "octet does not have every part and refuses by name what it does not have",
           lambda case, ours, theirs: ours.get("status") == "unsupported" and theirs[0] == "ok"),
    Reason("renumbered", "the reference numbers added tokens by their order and only warns that the file says otherwise; octet "
           "takes the file's ids, or refuses those that clash", renumbered),
    Reason("contradiction", "octet refuses a vocabulary that contradicts itself when it is loaded; the reference keeps one of the two, "
           "or fails when it meets the token", ours_refuses("two tokens have the id", "is out of range", "unk_token is not in",
                                                                    "taken by another token", "spelled alike", "post_processor: token")),
    Reason("normalized-added", "since 0.22 the reference decodes an added token that is matched in normalized text to that text; "
           "octet, as earlier versions, to its content", normalized_added),
    Reason("strict-fields", "the reference wants every field of a part, none beyond them, and the right type of each; octet takes an "
           "absent flag by its default, null as absent, and does not read what changes no id",
           theirs_refuses("missing field", "unknown field", "did not match any variant", "expected `,` or `}`", "invalid type: null",
                          "expected f32", "single key", "duplicate field")),
    Reason("version", "octet does not read the version of the file, the reference wants \"1.0\"",
           lambda case, ours, theirs: "ok" in ours and theirs[0] == "error" and read(case).get("version") != "1.0"),
    Reason("unk-order", "where the bytes of some characters are not in a vocabulary with byte fallback, the reference writes <unk> "
           "behind the bytes of what follows; octet keeps the order of the text", unk_order),
    Reason("blank-token", "the reference counts blanks twice where an added token is a blank and takes the blanks beside it too", blank_token),
    Reason("nul-in-key", "octet refuses a NUL in a key outside the vocabulary, which C text cannot hold", ours_refuses("NUL byte in object key")),
    Reason("untyped-model", "a model that says no type and is not quite BPE is tried as other kinds by the reference; octet names what is wrong",
           untyped_model),
    Reason("strip", "octet refuses a Strip decoder that takes more blanks than its limit off a text",
           ours_refuses("decoder: Strip: st")),
    Reason("unread", "octet does not read truncation and padding: a server neither cuts nor fills a prompt",
           lambda case, ours, theirs: "ok" in ours and theirs[0] == "error"
           and any(read(case).get(k) is not None for k in ("truncation", "padding"))),
    Reason("alphabet", "with ByteLevel octet reads the vocabulary in the alphabet of bytes, and refuses one that is not written in it",
           lambda case, ours, theirs: "has a part that is not in the vocabulary" in ours.get("error", "") and b"ByteLevel" in case[0]),
]

if __name__ == "__main__":
    run("tokenizer", mutant, ask, agree, REASONS)
