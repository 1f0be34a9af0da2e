"""Writes a tiny Llama-shaped model folder: random weights, a byte-level tokenizer, a chat template.

The model tells a known story. Its last matrix maps each token to the one that follows it in STORY,
so greedy text is predictable byte for byte, while attention and MLP (small random matrices) make
sampled text and every logprob depend on the whole context. Standard library only.

    make_tiny.py FOLDER
"""
import json
import math
import os
import random
import struct
import sys

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, MLP = 64, 2, 4, 2, 16, 96
CONTEXT = 32768
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|bos|>"]
# Each byte occurs once, so each has one successor. After the last byte the story begins again.
STORY = ('abcdefghijklmnopqrstuvwxyz\u00e9ABCDEFGHIJKLMNOPQRSTUVWXYZ\u2028"\\\n\U0001f6010123456789'
         .encode())
EOS_AFTER = ord("!")       # the model ends after an exclamation mark
BROKEN_AFTER = ord("^")    # and writes a byte that is no UTF-8 after this


def byte_names():
    """The printable characters that byte-level vocabularies use for the 256 bytes."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    names, extra = {}, 0
    for b in range(256):
        if b in keep:
            names[b] = chr(b)
        else:
            names[b] = chr(256 + extra)
            extra += 1
    return names


MERGES = ["t h", "th e", "h e", "l l", "\u0120 t", "\u0120 the", "a n", "an d"]


def tokenizer(pieces=()):
    names = byte_names()
    vocab = {names[b]: b for b in range(256)}
    for m in MERGES:
        vocab.setdefault(m.replace(" ", ""), len(vocab))
    if "\u0120the" not in vocab:
        raise AssertionError
    n = len(vocab)
    added = [{"id": n + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, s in enumerate(SPECIAL)]
    added += [dict(added[0], id=n + len(SPECIAL) + i, content=s, special=False)
              for i, s in enumerate(pieces)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": MERGES},
    }, n


TEMPLATE = """{%- for m in messages %}
{%- if m.role == 'fail' %}{{ raise_exception('no such role here') }}{% endif %}
{%- if m.role == 'loop' %}{% for i in range(1000000000) %}x{% endfor %}{% endif %}
{%- if m.role == 'silent' %}{% else %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if tools %}{{ '<|im_start|>tools\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}
{%- if style is defined %}{{ '[' + style + ']' }}{% endif %}
{%- if add_generation_prompt and messages[0].role != 'silent' %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""


def successors(n_vocab, eos, speeches=None):
    after = {STORY[i]: STORY[(i + 1) % len(STORY)] for i in range(len(STORY))}
    after[EOS_AFTER] = eos
    after[BROKEN_AFTER] = 0xFF
    at = n_vocab - sum(len(pieces) for pieces in (speeches or {}).values())
    for trigger, pieces in (speeches or {}).items():
        chain = [ord(trigger), *range(at, at + len(pieces)), eos]
        after.update(zip(chain, chain[1:]))
        at += len(pieces)
    return [after.get(t, STORY[t % 26]) for t in range(n_vocab)]


def weights(n_vocab, eos, speeches=None):
    rng = random.Random(20)

    def matrix(rows, cols, scale):
        return [[rng.uniform(-scale, scale) for _ in range(cols)] for _ in range(rows)]

    embed = [[rng.choice((-1.0, 1.0)) for _ in range(HIDDEN)] for _ in range(n_vocab)]
    head = [[rng.uniform(-0.02, 0.02) for _ in range(HIDDEN)] for _ in range(n_vocab)]
    # Row j of the head points to the tokens that j follows; what many share is told apart by size.
    followed = [[] for _ in range(n_vocab)]
    triggers = [ord(t) for t in speeches or {}]
    first_piece = n_vocab - sum(len(pieces) for pieces in (speeches or {}).values())
    for token, following in enumerate(successors(n_vocab, eos, speeches)):
        followed[following].append(token)
    for j, tokens in enumerate(followed):
        if not tokens:
            continue
        # Only what is followed by rule counts; the rest of a crowd would blur it.
        sure = [t for t in tokens if t in triggers or t >= first_piece or
                t < 256 and (bytes([t]) in STORY or t in (EOS_AFTER, BROKEN_AFTER))]
        for t in sure or tokens[:1]:
            for k in range(HIDDEN):
                head[j][k] += 0.15 * embed[t][k]

    out = {"model.embed_tokens.weight": embed, "lm_head.weight": head,
           "model.norm.weight": [1.0] * HIDDEN}
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        out[p + "input_layernorm.weight"] = [1.0] * HIDDEN
        out[p + "post_attention_layernorm.weight"] = [1.0] * HIDDEN
        for name, rows, cols, scale in (("self_attn.q_proj", q, HIDDEN, 0.2),
                                        ("self_attn.k_proj", kv, HIDDEN, 0.2),
                                        ("self_attn.v_proj", kv, HIDDEN, 0.1),
                                        ("self_attn.o_proj", HIDDEN, q, 0.1),
                                        ("mlp.gate_proj", MLP, HIDDEN, 0.1),
                                        ("mlp.up_proj", MLP, HIDDEN, 0.1),
                                        ("mlp.down_proj", HIDDEN, MLP, 0.1)):
            out[p + name + ".weight"] = matrix(rows, cols, scale)
    return out


def bf16(values):
    raw = struct.pack(f"<{len(values)}f", *values)
    return b"".join(raw[i + 2:i + 4] for i in range(0, len(raw), 4))


def write_safetensors(path, tensors):
    header, blobs, at = {}, [], 0
    for name in sorted(tensors):
        t = tensors[name]
        shape = [len(t), len(t[0])] if isinstance(t[0], list) else [len(t)]
        blob = bf16([v for row in t for v in row] if len(shape) == 2 else t)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def make(folder, speeches=None):
    """speeches: {character: [piece, ...]}: what the model says after a character, each piece a token
    of its own, then its end."""
    os.makedirs(folder, exist_ok=True)
    pieces = [p for speech in (speeches or {}).values() for p in speech]
    if len(set(pieces)) != len(pieces):
        raise ValueError("a piece has one successor: each may occur once")
    tok, first_special = tokenizer(pieces)
    n_vocab = first_special + len(SPECIAL) + len(pieces)
    start, end, bos = range(first_special, first_special + len(SPECIAL))

    def dump(name, value):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False)

    dump("tokenizer.json", tok)
    dump("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast",
                                   "bos_token": "<|bos|>", "eos_token": "<|im_end|>",
                                   "chat_template": TEMPLATE})
    dump("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": n_vocab,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "bos_token_id": bos, "eos_token_id": end})
    dump("generation_config.json", {"eos_token_id": [end]})
    write_safetensors(os.path.join(folder, "model.safetensors"), weights(n_vocab, end, speeches))
    return n_vocab


def make_large(folder, layers=24, mlp=16384):
    """A model whose loading takes a while: zeros that take no room on disk. Bytes of its weights."""
    n_vocab = make(folder)
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config.update(num_hidden_layers=layers, intermediate_size=mlp, tie_word_embeddings=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    shapes = {"model.embed_tokens.weight": [n_vocab, HIDDEN], "model.norm.weight": [HIDDEN]}
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, shape in (("input_layernorm", [HIDDEN]), ("post_attention_layernorm", [HIDDEN]),
                            ("self_attn.q_proj", [q, HIDDEN]), ("self_attn.k_proj", [kv, HIDDEN]),
                            ("self_attn.v_proj", [kv, HIDDEN]), ("self_attn.o_proj", [HIDDEN, q]),
                            ("mlp.gate_proj", [mlp, HIDDEN]), ("mlp.up_proj", [mlp, HIDDEN]),
                            ("mlp.down_proj", [HIDDEN, mlp])):
            shapes[p + name + ".weight"] = shape
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)
    return at


if __name__ == "__main__":
    make(sys.argv[1])
