/* quantize/calib_text.h - a text of our own for calibration: prose, dialogue, code, lists, numbers,
 * terms, a manual page, a little of other languages; some 23 KB. */
#ifndef OCT_QUANTIZE_CALIB_TEXT_H
#define OCT_QUANTIZE_CALIB_TEXT_H

#include "base/buf.h"

/* Appends it; the only failure is memory (out->failed). */
void oct_calib_text(oct_buf *out);

#endif
