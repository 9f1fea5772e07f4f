/* What metal.m and metal_kernels.m share. Objects are kept as `void *` with a reference of their own, so that both
 * compile with automatic reference counting and without. */
#ifndef ELL_METAL_H
#define ELL_METAL_H

#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#include "device.h"

/* KEEP: a reference to an object that somebody else owns; KEEP_NEW: the one that its maker got. NULL is kept as it
 * is. AS: the object, which stays kept. LET_GO: gives a kept reference back, LET_GO_NEW one that was not kept. */
#if __has_feature(objc_arc)
#define KEEP(object) ((__bridge_retained void *)(object))
#define KEEP_NEW(object) KEEP(object)
#define AS(type, pointer) ((__bridge type)(pointer))
#define LET_GO(pointer) ((void)(__bridge_transfer id)(pointer))
#define LET_GO_NEW(object) ((void)(object))
#else
#define KEEP(object) ((void *)[(object) retain])
#define KEEP_NEW(object) ((void *)(object))
#define AS(type, pointer) ((type)(pointer))
#define LET_GO(pointer) [(id)(pointer) release]
#define LET_GO_NEW(object) [(object) release]
#endif

/* What Metal says; valid as long as the autorelease pool of the caller. */
const char *ell_metal_reason(NSError *problem);

/* A kept id<MTLComputePipelineState> of a text; NULL for an error. `cache`: directory where compiled kernels are
 * looked for and put, or NULL. */
void *ell_metal_compile(id<MTLDevice> gpu, const char *cache, const struct ell_source *source,
                        struct ell_error *error);

#endif
