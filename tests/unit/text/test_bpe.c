/* text/bpe.h: short and long pieces against the plain definition, with random vocabularies whose
 * ranks are in any order (also equal), so that new merges come before older ones. */
#include "text_files.h"

#include "text/bpe.h"

static uint64_t seed = 20261121;
static uint32_t dice(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

/* The lowest rank first, leftmost among equals, until none applies. */
static size_t plain_merge(const oct_vocab *v, int32_t *ids, size_t n) {
    for (;;) {
        const oct_pair *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const oct_pair *p = oct_vocab_pair(v, ids[i], ids[i + 1]);
            if (p && (!best || p->rank < best->rank)) best = p, at = i;
        }
        if (!best) return n;
        ids[at] = best->id;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

/* Letters a, b, c, and n tokens, each two earlier ones joined. */
static void random_vocabulary(oct_vocab *v, oct_bpe_model *model, uint32_t n) {
    oct_vocab_init(v, MEM);
    *model = (oct_bpe_model){.vocab = v, .byte_level = true, .unk_id = -1};
    for (int b = 0; b < 256; b++) model->byte_id[b] = -1;
    for (int i = 0; i < 3; i++) {
        const char letter = (char)('a' + i);
        assert_int_equal(oct_vocab_put(v, i, (oct_str){&letter, 1}, OCT_TOKEN_MODEL, NULL), OCT_OK);
        model->byte_id[(uint8_t)letter] = i;
    }
    const uint32_t n_ranks = 1 + dice(2 * n + 1);
    for (uint32_t tries = 0; tries < n; tries++) {
        char joined[64];
        const int32_t left = (int32_t)dice(v->n), right = (int32_t)dice(v->n);
        const oct_str l = oct_vocab_spell(v, left), r = oct_vocab_spell(v, right);
        if (l.len + r.len > 12) continue;
        memcpy(joined, l.ptr, l.len);
        memcpy(joined + l.len, r.ptr, r.len);
        const oct_str s = {joined, l.len + r.len};
        int32_t id = oct_vocab_by_spell(v, s.ptr, s.len);
        if (id < 0) {
            id = (int32_t)v->n;
            assert_int_equal(oct_vocab_put(v, id, s, OCT_TOKEN_MODEL, NULL), OCT_OK);
        }
        assert_int_equal(oct_vocab_put_merge(v, left, right, id, dice(n_ranks), NULL), OCT_OK);
    }
}

static void all_ways_give_the_plain_result(void **state) {
    (void)state;
    for (int round = 0; round < 400; round++) {
        oct_vocab v;
        oct_bpe_model model;
        oct_bpe_worker worker;
        random_vocabulary(&v, &model, 2 + dice(40));
        oct_bpe_begin(&worker, MEM, &model);
        for (int k = 0; k < 8; k++) {
            char text[700];
            int32_t want[700];
            const size_t len = k < 3 ? 1 + dice(96) : 90 + dice(600);
            const uint32_t letters = 1 + dice(3);
            for (size_t i = 0; i < len; i++) {
                want[i] = (int32_t)dice(letters);
                text[i] = (char)('a' + want[i]);
            }
            const size_t n = plain_merge(&v, want, len);
            oct_ids ids;
            oct_ids_init(&ids, MEM);
            assert_true(oct_bpe_piece(&worker, (oct_str){text, len}, &ids));
            assert_int_equal(ids.len, n);
            assert_memory_equal(ids.data, want, n * sizeof *want);
            /* Again, now that the worker and the whole-token marks were used. */
            oct_ids_clear(&ids);
            assert_true(oct_bpe_piece(&worker, (oct_str){text, len}, &ids));
            assert_int_equal(ids.len, n);
            assert_memory_equal(ids.data, want, n * sizeof *want);
            oct_ids_fini(&ids);
        }
        oct_bpe_end(&worker);
        oct_vocab_fini(&v);
    }
}

static void a_piece_that_is_a_token_may_be_taken_whole(void **state) {
    (void)state;
    oct_vocab v;
    oct_bpe_model model;
    oct_bpe_worker worker;
    oct_ids ids;
    random_vocabulary(&v, &model, 0);
    assert_int_equal(oct_vocab_put(&v, 9, OCT_STR("abc"), OCT_TOKEN_MODEL, NULL), OCT_OK);
    oct_ids_init(&ids, MEM);
    for (int whole = 0; whole < 2; whole++) {
        model.ignore_merges = whole;
        oct_ids_clear(&ids);
        oct_bpe_begin(&worker, MEM, &model);
        assert_true(oct_bpe_piece(&worker, OCT_STR("abc"), &ids));
        oct_bpe_end(&worker);
        assert_int_equal(ids.len, whole ? 1 : 3);
        assert_int_equal(ids.data[0], whole ? 9 : 0);
    }
    oct_ids_fini(&ids);
    oct_vocab_fini(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ways_give_the_plain_result),
        cmocka_unit_test(a_piece_that_is_a_token_may_be_taken_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
