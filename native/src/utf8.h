/* UTF-8 (RFC 3629). */
#ifndef ELL_UTF8_H
#define ELL_UTF8_H

#include "base.h"

#define ELL_REPLACEMENT 0xFFFDu

/* The first character of a text that is not empty, and the bytes it takes; 0 bytes and U+FFFD where it is broken. */
size_t ell_utf8_next(struct ell_text text, uint32_t *code);
/* As `ell_utf8_next`, but always goes on: the longest piece that began well (Unicode, section 3.9, "maximal
 * subpart"), or one byte, counts as one U+FFFD. */
size_t ell_utf8_step(struct ell_text text, uint32_t *code);
/* Bytes at the start of `text` that begin a character well but do not end it; 0 if there is none such. */
size_t ell_utf8_begun(struct ell_text text);
/* Writes up to 4 bytes; surrogates and numbers beyond U+10FFFF become U+FFFD. */
size_t ell_utf8_write(uint32_t code, char *out);

#endif
