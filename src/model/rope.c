/* model/rope.c - see rope.h; r is the number of rotated dimensions, b the base theta. */
#include "model/rope.h"

#include <math.h>
#include <string.h>

static const double TWO_PI = 6.283185307179586476925286766559;

/* llama3: long waves are slowed by factor, short ones kept, those between blended. */
static double llama3(const oct_rope_config *p, double f) {
    const double wave = TWO_PI / f, old = (double)p->original_max_position;
    if (wave < old / p->high_freq_factor) return f;
    if (wave > old / p->low_freq_factor) return f / p->factor;
    const double t = (old / wave - p->low_freq_factor) / (p->high_freq_factor - p->low_freq_factor);
    return (1 - t) * f / p->factor + t * f;
}

/* YaRN: the dimension whose wave turns `turns` times over the original length. */
static double yarn_corner(const oct_rope_config *p, double turns) {
    return p->rotary_dim * log((double)p->original_max_position / (turns * TWO_PI)) /
           (2 * log(p->theta));
}

static void yarn(const oct_rope_config *p, double *f) {
    double lo = yarn_corner(p, p->beta_fast), hi = yarn_corner(p, p->beta_slow);
    if (p->truncate) lo = floor(lo), hi = ceil(hi);
    lo = fmax(lo, 0);
    hi = fmin(hi, (double)p->rotary_dim - 1);
    if (lo == hi) hi += 0.001;
    for (uint32_t i = 0; i < p->rotary_dim / 2; i++) {
        const double ramp = fmin(fmax((i - lo) / (hi - lo), 0), 1);
        f[i] = f[i] / p->factor * ramp + f[i] * (1 - ramp);
    }
}

/* NTK: the base that stretches the slowest wave by as much as the context is longer. */
static double dynamic_theta(const oct_rope_config *p, uint32_t max_len) {
    const double dim = p->rotary_dim, reach = (double)max_len / p->original_max_position;
    if (reach <= 1) return p->theta;
    return p->theta * pow(p->factor * reach - (p->factor - 1), dim / (dim - 2));
}

void oct_rope_settle(oct_rope_config *p, uint32_t max_len) {
    if (p->type == OCT_ROPE_DYNAMIC) {
        p->theta = dynamic_theta(p, max_len);
        p->type = OCT_ROPE_DEFAULT;
    }
    if (p->type != OCT_ROPE_LONG) return;
    if (max_len > p->original_max_position) memcpy(p->factors, p->long_factors, sizeof p->factors);
    p->type = OCT_ROPE_FACTORS;
}

void oct_rope_frequencies(const oct_rope_config *p, double *out) {
    for (uint32_t i = 0; i < p->rotary_dim / 2; i++) {
        out[i] = pow(p->theta, -2.0 * i / p->rotary_dim);
        if (p->type == OCT_ROPE_LINEAR) out[i] /= p->factor;
        if (p->type == OCT_ROPE_LLAMA3) out[i] = llama3(p, out[i]);
        if (p->type == OCT_ROPE_FACTORS) out[i] /= (double)p->factors[i];
    }
    if (p->type == OCT_ROPE_YARN) yarn(p, out);
}

void oct_rope_row(const oct_rope_config *p, const double *frequencies, uint32_t position,
                  float *out) {
    const uint32_t half = p->rotary_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        const double angle = (double)position * frequencies[i];
        out[i] = (float)(cos(angle) * p->attention_factor);
        out[half + i] = (float)(sin(angle) * p->attention_factor);
    }
}
