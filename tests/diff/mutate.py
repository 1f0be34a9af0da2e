"""Mutations of bytes and of JSON values."""
import copy, json

NUMBERS = [0, 1, 2, 3, 7, 8, -1, 255, 256, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1,
           2**64, 10**30, 0.5, 1.0, -0.0, 1e300]
STRINGS = ["", "a", " ", "\0", "é", "😀", "\u2581", "x" * 300, "null", "0", "__metadata__"]
BYTES = [b"\0", b"\xff", b"\xc3", b"{", b"}", b"[", b"]", b'"', b",", b":", b" ", b"\n", b"\\", b"\\u0000", b"\\ud800",
         b"0", b"1", b"-", b".5", b"e9", b"null", b"true", b"false", b"NaN", b"/**/", b"\xef\xbb\xbf"]


def mutate_bytes(rng, data, tokens=BYTES):
    """One to three small edits."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        n = rng.choice((1, 1, 2, 4, 9))
        edit = rng.randrange(6)
        if edit == 0:
            del data[at : at + n]
        elif edit == 1:
            data[at:at] = rng.choice(tokens)
        elif edit == 2:
            data[at : at + n] = rng.choice(tokens)
        elif edit == 3 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif edit == 4:
            data[at:at] = data[at : at + rng.choice((n, 30))]
        elif edit == 5:
            other = rng.randrange(len(data) + 1)
            piece = data[other : other + rng.choice((n, 30))]
            data[at : at + len(piece)] = piece
    return bytes(data)


def places(value, path=()):
    """Every (container, key) below value."""
    if isinstance(value, dict):
        for k, v in list(value.items()):
            yield value, k
            yield from places(v)
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield value, i
            yield from places(v)


def other_value(rng, old, pool):
    """Something to stand where old stood: near it, or of any kind."""
    if isinstance(old, bool):
        return rng.choice((not old, not old, None, 0, "true"))
    if isinstance(old, (int, float)) and rng.random() < 0.8:
        return rng.choice((old + 1, old - 1, old * 2, -old, *rng.sample(NUMBERS, 3)))
    if isinstance(old, str) and rng.random() < 0.6:
        at = rng.randrange(len(old) + 1)
        return rng.choice((old[:at] + old[at + 1 :], old[:at] + rng.choice(STRINGS) + old[at:], old.swapcase(), old + old))
    return rng.choice((None, True, False, [], {}, [old], {"a": old}, rng.choice(NUMBERS), rng.choice(STRINGS),
                       copy.deepcopy(rng.choice(pool)), copy.deepcopy(rng.choice(pool))))


def mutate_json(rng, value, edits=(1, 1, 1, 2, 3), prefer=None):
    """A changed copy: values replaced, removed, swapped, doubled, keys renamed. prefer(container, key) weighs places."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice(edits)):
        all_places = list(places(value))
        if not all_places:
            return value
        if prefer and rng.random() < 0.85:
            all_places = [p for p in all_places if prefer(*p)] or all_places
        box, key = rng.choice(all_places)
        pool = [b[k] for b, k in rng.sample(all_places, min(8, len(all_places)))]
        edit = rng.randrange(8)
        if edit == 0:
            del box[key]
        elif edit == 1 and isinstance(box, dict):
            name = rng.choice((key + "x", key[:-1], key.upper(), rng.choice(STRINGS), str(rng.choice(list(box)))))
            box[name] = box.pop(key)
        elif edit == 2:
            box2, key2 = rng.choice(all_places)
            box[key] = copy.deepcopy(box2[key2]) if key2 in (box2 if isinstance(box2, dict) else range(len(box2))) else None
        elif edit == 3 and isinstance(box, list):
            box.insert(rng.randrange(len(box) + 1), copy.deepcopy(box[key]))
        elif edit == 3:
            box[rng.choice(STRINGS)] = copy.deepcopy(box[key])
        else:
            box[key] = other_value(rng, box[key], pool)
    return value


def dumps(rng, value):
    """Compact or not, ASCII or not; lone surrogates cannot come up."""
    return json.dumps(value, ensure_ascii=rng.random() < 0.3,
                      separators=rng.choice(((",", ":"), (", ", ": ")))).encode("utf-8", "replace")
