/*
 * text/tokenizer_parts.c - the small parts of tokenizer.json: normalizer, pre-tokenizer, decoder,
 * post-processor, added tokens.
 *
 * Every type and every field that changes the result is either done or refused by name. Sequences
 * are walked one level deep, which is what files have; a sequence in a sequence is refused.
 */
#include <string.h>

#include "base/num.h"
#include "codec/json.h"
#include "text/tokenizer_priv.h"

#define WHERE "tokenizer.json"

static oct_str type_of(const json_t *part) { return oct_json_str(json_object_get(part, "type")); }
static bool absent(const json_t *part) { return !part || json_is_null(part); }

static oct_status unknown(oct_err *err, const char *part, oct_str type) {
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: %s: type is not supported (got \"%.*s\")", WHERE,
                    part, (int)(type.len < 64 ? type.len : 64), type.ptr ? type.ptr : "");
}

static oct_status field_unsupported(oct_err *err, const char *part, const char *field,
                                    const json_t *value) {
    char shown[OCT_JSON_SHOWN];
    return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: %s: %s is not supported (got %s)", WHERE, part,
                    field, value ? oct_json_show(value, shown) : "nothing");
}

static bool flag(const json_t *part, const char *key, bool otherwise) {
    const json_t *v = json_object_get(part, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* What stands under the name of a flag must be one: a "false" in quotes is not silently true. */
static oct_status check_flags(const json_t *part, const char *name, oct_err *err) {
    static const char *const flags[] = {
        "add_prefix_space", "individual_digits", "invert", "lstrip",       "normalized", "rstrip",
        "single_word",      "special",           "split",  "trim_offsets", "use_regex"};
    for (size_t i = 0; i < OCT_COUNT(flags); i++) {
        const json_t *v = json_object_get(part, flags[i]);
        char shown[OCT_JSON_SHOWN];
        if (v && !json_is_boolean(v))
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: %s: %s must be true or false (got %s)", WHERE,
                            name, flags[i], oct_json_show(v, shown));
    }
    return OCT_OK;
}

/* Calls one for part, or for each member of a Sequence, whose members are in list. */
typedef oct_status (*part_fn)(oct_tokenizer *tok, const json_t *part, oct_str type, oct_err *err);

static oct_status each(oct_tokenizer *tok, const json_t *part, const char *name, const char *list,
                       part_fn one, oct_err *err) {
    if (absent(part)) return OCT_OK;
    OCT_TRY(check_flags(part, name, err));
    if (!oct_str_is(type_of(part), "Sequence")) return one(tok, part, type_of(part), err);
    const json_t *members = json_object_get(part, list);
    if (!json_is_array(members)) return field_unsupported(err, name, list, members);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);
        OCT_TRY(check_flags(m, name, err));
        OCT_TRY(one(tok, m, type_of(m), err));
    }
    return OCT_OK;
}

/* A string field that must be there. */
static oct_status text_field(oct_tokenizer *tok, const json_t *part, const char *name,
                             const char *key, bool may_be_empty, oct_str *out, oct_err *err) {
    const json_t *v = json_object_get(part, key);
    const oct_str s = oct_json_str(v);
    if (!s.ptr || (s.len == 0 && !may_be_empty) || s.len > OCT_TOKENIZER_MAX_TOKEN_BYTES)
        return field_unsupported(err, name, key, v);
    return oct_tok_keep(tok, s, out, err);
}

/* ---- normalizer ---- */

static oct_status replace_of(oct_tokenizer *tok, const json_t *part, const char *name,
                             oct_norm_step *step, oct_err *err) {
    const json_t *pattern = json_object_get(part, "pattern");
    step->kind = OCT_NORM_REPLACE;
    if (!json_object_get(pattern, "String"))
        return field_unsupported(err, name, "Replace pattern", pattern);
    OCT_TRY(text_field(tok, pattern, name, "String", false, &step->pattern, err));
    return text_field(tok, part, name, "content", true, &step->content, err);
}

static oct_status one_normalizer(oct_tokenizer *tok, const json_t *part, oct_str type,
                                 oct_err *err) {
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    oct_norm_step step = {0};
    if (tok->n_norms == OCT_TOK_MAX_NORMS)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: normalizer: more than %d steps", WHERE,
                        OCT_TOK_MAX_NORMS);
    if (oct_str_is(type, "Prepend")) {
        step.kind = OCT_NORM_PREPEND;
        OCT_TRY(text_field(tok, part, "normalizer", "prepend", false, &step.content, err));
    } else if (oct_str_is(type, "Replace")) {
        OCT_TRY(replace_of(tok, part, "normalizer", &step, err));
    } else {
        size_t k = 0;
        while (k < OCT_COUNT(forms) && !oct_str_is(type, forms[k])) k++;
        if (k == OCT_COUNT(forms)) return unknown(err, "normalizer", type);
        step.kind = (oct_norm_kind)(OCT_NORM_NFC + k);
    }
    tok->norms[tok->n_norms++] = step;
    return OCT_OK;
}

oct_status oct_tok_read_normalizer(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    return each(tok, part, "normalizer", "normalizers", one_normalizer, err);
}

/* ---- pre-tokenizer ---- */

static oct_status pre_split(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    const json_t *behavior = json_object_get(part, "behavior");
    const json_t *pattern = json_object_get(part, "pattern");
    if (!oct_str_is(oct_json_str(behavior), "Isolated"))
        return field_unsupported(err, "pre_tokenizer", "Split behavior", behavior);
    if (flag(part, "invert", false))
        return field_unsupported(err, "pre_tokenizer", "Split invert",
                                 json_object_get(part, "invert"));
    const oct_str regex = oct_json_str(json_object_get(pattern, "Regex"));
    if (!regex.ptr) return field_unsupported(err, "pre_tokenizer", "Split pattern", pattern);
    return oct_pretok_add_pattern(&tok->pretok, &tok->arena, regex, err);
}

static oct_status pre_byte_level(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    const bool prefix = flag(part, "add_prefix_space", true);
    tok->bpe.byte_level = true;
    if (prefix && tok->pretok.n_stages > 0)
        return field_unsupported(err, "pre_tokenizer", "ByteLevel add_prefix_space after a split",
                                 json_true());
    if (prefix) tok->prepend = OCT_PREPEND_ALWAYS;
    if (!flag(part, "use_regex", true)) return OCT_OK;
    return oct_pretok_add_scan(&tok->pretok, oct_scan_gpt2, oct_str_of(oct_pattern_gpt2), err);
}

static oct_status scheme_of(const json_t *part, const char *name, oct_prepend *out, oct_err *err) {
    static const char *const names[] = {"never", "first", "always"};
    const json_t *scheme = json_object_get(part, "prepend_scheme");
    *out = flag(part, "add_prefix_space", true) ? OCT_PREPEND_ALWAYS : OCT_PREPEND_NEVER;
    if (!scheme) return OCT_OK;
    for (size_t i = 0; i < OCT_COUNT(names); i++) {
        if (oct_str_is(oct_json_str(scheme), names[i])) {
            *out = (oct_prepend)i;
            return OCT_OK;
        }
    }
    return field_unsupported(err, name, "Metaspace prepend_scheme", scheme);
}

static oct_status pre_metaspace(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    if (tok->pretok.n_stages > 0 || tok->space_mark.len || tok->bpe.byte_level)
        return field_unsupported(err, "pre_tokenizer", "Metaspace after another part", part);
    OCT_TRY(text_field(tok, part, "pre_tokenizer", "replacement", false, &tok->space_mark, err));
    OCT_TRY(scheme_of(part, "pre_tokenizer", &tok->prepend, err));
    if (!flag(part, "split", true)) return OCT_OK;
    if (!oct_str_is(tok->space_mark, "\xE2\x96\x81"))
        return field_unsupported(err, "pre_tokenizer", "Metaspace replacement",
                                 json_object_get(part, "replacement"));
    return oct_pretok_add_scan(&tok->pretok, oct_scan_mark, OCT_STR(""), err);
}

static oct_status one_pre(oct_tokenizer *tok, const json_t *part, oct_str type, oct_err *err) {
    /* What follows would see the alphabet of bytes and not the text. */
    if (tok->bpe.byte_level)
        return field_unsupported(err, "pre_tokenizer", "a part after ByteLevel", part);
    if (oct_str_is(type, "Split")) return pre_split(tok, part, err);
    if (oct_str_is(type, "ByteLevel")) return pre_byte_level(tok, part, err);
    if (oct_str_is(type, "Metaspace")) return pre_metaspace(tok, part, err);
    if (oct_str_is(type, "Digits")) {
        const bool single = flag(part, "individual_digits", false);
        return oct_pretok_add_scan(&tok->pretok, single ? oct_scan_digit : oct_scan_digits,
                                   single ? oct_str_of(oct_pattern_digit) : OCT_STR("\\p{N}+"),
                                   err);
    }
    return unknown(err, "pre_tokenizer", type);
}

oct_status oct_tok_read_pre(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    return each(tok, part, "pre_tokenizer", "pretokenizers", one_pre, err);
}

/* ---- decoder ---- */

/* Parts come in this order, so that the result is the same token by token. */
enum { DEC_START, DEC_REPLACE, DEC_BYTES, DEC_FUSE, DEC_STRIP };

typedef struct decoder_walk {
    int reached;
    bool byte_level;
} decoder_walk;

static oct_status dec_strip(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    int64_t start = 0, stop = 0;
    OCT_TRY(oct_json_get_i64(part, "start", WHERE ": decoder: Strip", 0, 16, &start, err));
    OCT_TRY(oct_json_get_i64(part, "stop", WHERE ": decoder: Strip", 0, 16, &stop, err));
    if (stop != 0 || !oct_str_is(oct_json_str(json_object_get(part, "content")), " "))
        return field_unsupported(err, "decoder", "Strip", part);
    tok->n_strip = (uint8_t)start;
    return OCT_OK;
}

static oct_status dec_replace(oct_tokenizer *tok, const oct_norm_step *step, oct_err *err) {
    if (tok->n_replaces == OCT_TOK_MAX_REPLACES)
        return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: decoder: more than %d Replace parts", WHERE,
                        OCT_TOK_MAX_REPLACES);
    tok->replaces[tok->n_replaces++] = *step;
    return OCT_OK;
}

static oct_status dec_metaspace(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    oct_norm_step step = {.kind = OCT_NORM_REPLACE, .content = OCT_STR(" ")};
    oct_prepend scheme;
    OCT_TRY(text_field(tok, part, "decoder", "replacement", false, &step.pattern, err));
    OCT_TRY(scheme_of(part, "decoder", &scheme, err));
    tok->n_strip = scheme != OCT_PREPEND_NEVER;
    tok->strip_token = true; /* every mark that leads the first token goes, not only one */
    return dec_replace(tok, &step, err);
}

static oct_status one_decoder(oct_tokenizer *tok, const json_t *part, decoder_walk *walk,
                              oct_err *err) {
    static const char *const names[] = {"", "Replace", "ByteFallback", "Fuse", "Strip"};
    const oct_str type = type_of(part);
    int kind = DEC_REPLACE;
    OCT_TRY(check_flags(part, "decoder", err));
    if (oct_str_is(type, "ByteLevel")) {
        walk->byte_level = true;
        return OCT_OK;
    }
    if (oct_str_is(type, "Metaspace")) {
        if (walk->reached > DEC_REPLACE) return field_unsupported(err, "decoder", "order", part);
        walk->reached = DEC_REPLACE;
        return dec_metaspace(tok, part, err);
    }
    while (kind <= DEC_STRIP && !oct_str_is(type, names[kind])) kind++;
    if (kind > DEC_STRIP) return unknown(err, "decoder", type);
    const bool order =
        kind == DEC_STRIP ? walk->reached == DEC_FUSE : walk->reached < kind || kind == DEC_REPLACE;
    if (!order || (kind == DEC_REPLACE && walk->reached > DEC_REPLACE))
        return field_unsupported(err, "decoder", "the order of its parts", part);
    walk->reached = kind;
    oct_norm_step step;
    switch (kind) {
    case DEC_REPLACE:
        OCT_TRY(replace_of(tok, part, "decoder", &step, err));
        return dec_replace(tok, &step, err);
    case DEC_BYTES:
        tok->decode_bytes = true;
        return OCT_OK;
    case DEC_STRIP:
        return dec_strip(tok, part, err);
    default:
        return OCT_OK;
    }
}

oct_status oct_tok_read_decoder(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    decoder_walk walk = {0};
    if (absent(part)) return field_unsupported(err, "decoder", "no decoder", part);
    if (!oct_str_is(type_of(part), "Sequence")) {
        OCT_TRY(one_decoder(tok, part, &walk, err));
    } else {
        const json_t *members = json_object_get(part, "decoders");
        if (!json_is_array(members)) return field_unsupported(err, "decoder", "decoders", members);
        for (size_t i = 0; i < json_array_size(members); i++)
            OCT_TRY(one_decoder(tok, json_array_get(members, i), &walk, err));
    }
    if (walk.byte_level != tok->bpe.byte_level || (walk.byte_level && walk.reached))
        return field_unsupported(err, "decoder", "a decoder that does not fit the pre_tokenizer",
                                 part);
    return OCT_OK;
}

/* ---- post-processor ---- */

static oct_status affix_token(oct_tokenizer *tok, const json_t *item, const json_t *specials,
                              int32_t *ids, size_t *n, oct_err *err) {
    const oct_str name = oct_json_str(json_object_get(item, "id"));
    const json_t *list =
        name.ptr ? json_object_get(json_object_get(specials, name.ptr), "ids") : NULL;
    if (!json_is_array(list)) return field_unsupported(err, "post_processor", "token", item);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || !oct_vocab_has(&tok->vocab, json_integer_value(id)))
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "%s: post_processor: token \"%.*s\" is not in the "
                            "vocabulary",
                            WHERE, OCT_STR_ARG(name));
        if (*n == OCT_TOK_MAX_AFFIX)
            return OCT_FAIL(err, OCT_E_UNSUPPORTED, "%s: post_processor: more than %d tokens",
                            WHERE, OCT_TOK_MAX_AFFIX);
        ids[(*n)++] = (int32_t)json_integer_value(id);
    }
    return OCT_OK;
}

static oct_status post_template(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    const json_t *single = json_object_get(part, "single");
    const json_t *specials = json_object_get(part, "special_tokens");
    bool seen = false;
    if (!json_is_array(single) || tok->n_prefix || tok->n_suffix)
        return field_unsupported(err, "post_processor", "single", single);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *token = json_object_get(item, "SpecialToken");
        if (token) {
            OCT_TRY(affix_token(tok, token, specials, seen ? tok->suffix : tok->prefix,
                                seen ? &tok->n_suffix : &tok->n_prefix, err));
            continue;
        }
        const json_t *sequence = json_object_get(item, "Sequence");
        if (seen || !oct_str_is(oct_json_str(json_object_get(sequence, "id")), "A"))
            return field_unsupported(err, "post_processor", "single", item);
        seen = true;
    }
    return seen ? OCT_OK : field_unsupported(err, "post_processor", "single", single);
}

static oct_status one_post(oct_tokenizer *tok, const json_t *part, oct_str type, oct_err *err) {
    if (oct_str_is(type, "ByteLevel")) return OCT_OK; /* changes offsets only */
    if (oct_str_is(type, "TemplateProcessing")) return post_template(tok, part, err);
    return unknown(err, "post_processor", type);
}

oct_status oct_tok_read_post(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    return each(tok, part, "post_processor", "processors", one_post, err);
}

/* ---- added tokens ---- */

static uint8_t rules_of(const json_t *t) {
    return (
        uint8_t)((flag(t, "single_word", false) ? OCT_ADDED_SINGLE_WORD : 0) |
                 (flag(t, "lstrip", false) ? OCT_ADDED_LSTRIP : 0) |
                 (flag(t, "rstrip", false) ? OCT_ADDED_RSTRIP : 0) |
                 (flag(t, "normalized", !flag(t, "special", false)) ? OCT_ADDED_NORMALIZED : 0));
}

oct_status oct_tok_read_added(oct_tokenizer *tok, const json_t *part, oct_err *err) {
    if (absent(part)) return OCT_OK;
    if (!json_is_array(part))
        return OCT_FAIL(err, OCT_E_CORRUPT, "%s: added_tokens must be an array", WHERE);
    for (size_t i = 0; i < json_array_size(part); i++) {
        const json_t *t = json_array_get(part, i), *id = json_object_get(t, "id");
        const oct_str content = oct_json_str(json_object_get(t, "content"));
        if (!json_is_integer(id) || !content.ptr)
            return OCT_FAIL(err, OCT_E_CORRUPT, "%s: added_tokens[%zu] wants an id and a content",
                            WHERE, i);
        OCT_TRY(check_flags(t, "added_tokens", err));
        OCT_TRY(oct_tok_put_added(tok, json_integer_value(id), content, flag(t, "special", false),
                                  rules_of(t), err));
    }
    return OCT_OK;
}

/* ---- tokenizer_config.json ---- */

/* "<s>" or {"content": "<s>", ...}. */
static oct_status special_name(oct_tokenizer *tok, const json_t *config, const json_t *map,
                               const char *key, oct_special_name *out, oct_err *err) {
    const json_t *v = json_object_get(config, key);
    if (absent(v)) v = json_object_get(map, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (absent(v)) return OCT_OK;
    const oct_str s = oct_json_str(v);
    if (!s.ptr)
        return OCT_FAIL(err, OCT_E_CORRUPT, "tokenizer_config.json: %s must be a string", key);
    OCT_TRY(oct_tok_keep(tok, s, &out->text, err));
    out->id = oct_tokenizer_find(tok, s);
    return OCT_OK;
}

/* Tokens that only the config lists. */
static oct_status config_added(oct_tokenizer *tok, const json_t *list, oct_err *err) {
    const char *key;
    json_t *t;
    json_object_foreach((json_t *)(uintptr_t)list, key, t) {
        int64_t id;
        const oct_str content = oct_json_str(json_object_get(t, "content"));
        if (!oct_parse_i64(oct_str_of(key), &id) || !content.ptr)
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "tokenizer_config.json: added_tokens_decoder[\"%.32s\"] wants a number "
                            "and a content",
                            key);
        if (oct_vocab_has(&tok->vocab, id) && (tok->vocab.entries[id].flags & OCT_TOKEN_ADDED) &&
            oct_str_eq(oct_vocab_text(&tok->vocab, (int32_t)id), content))
            continue;
        OCT_TRY(oct_tok_put_added(tok, id, content, flag(t, "special", false), rules_of(t), err));
    }
    return OCT_OK;
}

/* Llama's tokenizer class builds its post-processor from these two, whatever the file says. */
static oct_status llama_affixes(oct_tokenizer *tok, const json_t *config, oct_err *err) {
    const oct_str name = oct_json_str(json_object_get(config, "tokenizer_class"));
    const bool llama =
        oct_str_is(name, "LlamaTokenizer") || oct_str_is(name, "LlamaTokenizerFast") ||
        oct_str_is(name, "CodeLlamaTokenizer") || oct_str_is(name, "CodeLlamaTokenizerFast");
    if (!llama || !json_is_boolean(json_object_get(config, "add_bos_token"))) return OCT_OK;
    const bool bos = flag(config, "add_bos_token", true),
               eos = flag(config, "add_eos_token", false);
    if ((bos && tok->bos.id < 0) || (eos && tok->eos.id < 0))
        return OCT_FAIL(err, OCT_E_CORRUPT,
                        "tokenizer_config.json: %s asks for a token that the vocabulary lacks",
                        bos && tok->bos.id < 0 ? "add_bos_token" : "add_eos_token");
    tok->n_prefix = tok->n_suffix = 0;
    if (bos) tok->prefix[tok->n_prefix++] = tok->bos.id;
    if (eos) tok->suffix[tok->n_suffix++] = tok->eos.id;
    return OCT_OK;
}

static oct_status config_templates(oct_tokenizer *tok, const json_t *value, oct_err *err) {
    const oct_str one = oct_json_str(value);
    if (one.ptr) return oct_tok_add_template(tok, OCT_STR("default"), one, err);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *t = json_array_get(value, i);
        const oct_str name = oct_json_str(json_object_get(t, "name"));
        const oct_str source = oct_json_str(json_object_get(t, "template"));
        if (!name.ptr || !source.ptr)
            return OCT_FAIL(err, OCT_E_CORRUPT,
                            "tokenizer_config.json: chat_template[%zu] wants a name and a template",
                            i);
        OCT_TRY(oct_tok_add_template(tok, name, source, err));
    }
    return OCT_OK;
}

oct_status oct_tok_read_config(oct_tokenizer *tok, const json_t *config, const json_t *special_map,
                               oct_err *err) {
    OCT_TRY(config_added(tok, json_object_get(config, "added_tokens_decoder"), err));
    OCT_TRY(special_name(tok, config, special_map, "bos_token", &tok->bos, err));
    OCT_TRY(special_name(tok, config, special_map, "eos_token", &tok->eos, err));
    OCT_TRY(special_name(tok, config, special_map, "pad_token", &tok->pad, err));
    OCT_TRY(special_name(tok, config, special_map, "unk_token", &tok->unk, err));
    OCT_TRY(llama_affixes(tok, config, err));
    return config_templates(tok, json_object_get(config, "chat_template"), err);
}
