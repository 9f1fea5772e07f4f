#ifndef EDGELLM_H
#define EDGELLM_H

#ifdef __cplusplus
extern "C" {
#endif

/* Why a call failed: what happened, to which file or option, and what to do. UTF-8, ends in a zero. */
struct ell_error {
    char text[512];
};

#ifdef __cplusplus
}
#endif

#endif
