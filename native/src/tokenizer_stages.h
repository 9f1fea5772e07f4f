/* The stages of a `tokenizer.json`. */
#ifndef ELL_TOKENIZER_STAGES_H
#define ELL_TOKENIZER_STAGES_H

#include "tokenizer.h"

bool ell_read_normalizers(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error);
bool ell_read_cuts(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error);
bool ell_read_decoder(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error);

/* Whether a string of the file is this word; whether it is a string that is not empty. */
bool ell_stage_is(struct ell_json value, const char *word);
bool ell_stage_has_text(struct ell_json value);

#endif
