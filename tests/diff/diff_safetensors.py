"""Mutants of small safetensors files: octet and the safetensors package accept the same ones and read the same tensors."""
import os, struct
import safetensors
from compare import Reason, run
from mutate import dumps, mutate_bytes, mutate_json

CORPUS = os.path.join(os.path.dirname(__file__), "..", "..", "fuzz", "corpus", "safetensors")
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2,
         "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}


def small_file(rng):
    """A right one: (header, data)."""
    header, at = {}, 0
    if rng.random() < 0.3:
        header["__metadata__"] = {"format": "pt", "n": "1"}
    for i in range(rng.randrange(5)):
        dtype = rng.choice(list(SIZES))
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        size = SIZES[dtype]
        for d in shape:
            size *= d
        header[rng.choice(("w", "model.layers.0.q_proj.weight", "é", "a b")) + str(i)] = {
            "dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return header, rng.randbytes(at)


def mutant(rng, i):
    header, data = small_file(rng)
    kind = rng.randrange(10)
    if kind < 5:
        header = mutate_json(rng, header)
    text = dumps(rng, header)
    if kind in (5, 6):
        text = mutate_bytes(rng, text)
    if rng.random() < 0.2:
        text += b" " * rng.randrange(9)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)] + bytes(rng.randrange(3))
    length = len(text)
    if rng.random() < 0.05:
        length = rng.choice((length - 1, length + 1, 0, 2**63, 2**64 - 1, 100000001, length + len(data))) % 2**64
    whole = struct.pack("<Q", length) + text + data
    if kind == 7:
        whole = mutate_bytes(rng, whole)
    if kind == 8:
        names = sorted(os.listdir(CORPUS))
        with open(os.path.join(CORPUS, rng.choice(names)), "rb") as f:
            whole = mutate_bytes(rng, f.read())
    return [whole]


def ask(whole):
    return [[name, t["dtype"], list(t["shape"]), bytes(t["data"]).hex()] for name, t in safetensors.deserialize(whole)]


def agree(case, ours, theirs):
    return sorted(ours["ok"]) == sorted(theirs)


def only_ours_refuses(words):
    return lambda case, ours, theirs: theirs[0] == "ok" and any(w in ours.get("error", "") for w in words)


REASONS = [
    Reason("nul-in-key", "octet refuses a NUL in a key of the header, which C text cannot hold", only_ours_refuses(["NUL byte in object key"])),
    Reason("twice", "octet refuses a key that comes twice; the reference keeps the last", only_ours_refuses(["duplicate object key"])),
    Reason("no-name", "octet refuses a tensor without a name, and names beyond 4096 bytes", only_ours_refuses(["(want 1 to 4096)"])),
    Reason("metadata-null", "octet wants __metadata__ to be an object where it is there; the reference takes null as absent",
           only_ours_refuses(["__metadata__ is not an object"])),
    Reason("first-byte", "octet holds to the format's word that the header begins with '{'; the reference skips blanks",
           only_ours_refuses(["header does not begin with '{'"])),
    Reason("dimension", "octet refuses dimensions beyond 2^63 even beside one of 0", only_ours_refuses(["must be a whole number, not negative"])),
    Reason("rank", "octet takes up to 8 dimensions", only_ours_refuses(["dimensions"])),
]

if __name__ == "__main__":
    run("safetensors", mutant, ask, agree, REASONS)
