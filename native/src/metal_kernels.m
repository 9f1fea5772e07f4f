/* Kernels on Metal: compiled from their texts, and kept as binary archives, one file to a kernel, whose name is a hash
 * of all that it depends on. A file that the system does not take any more is made anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "metal.h"
#include "sha256.h"

const char *ell_metal_reason(NSError *problem)
{
    const char *text = problem != nil ? [[problem localizedDescription] UTF8String] : NULL;
    return text != NULL ? text : "Metal gives no reason";
}

static NSString *new_string(const char *text, size_t size)
{
    return [[NSString alloc] initWithBytes:text length:size encoding:NSUTF8StringEncoding];
}

static NSURL *url_of(const char *path)
{
    NSString *text = new_string(path, strlen(path));
    NSURL *url = text != nil ? [NSURL fileURLWithPath:text] : nil;
    LET_GO_NEW(text);
    return url;
}

/* Where the compiled form of a kernel is kept, in new memory. */
static char *place_of(id<MTLDevice> gpu, const char *cache, const struct ell_source *source)
{
    const char *system = [[[NSProcessInfo processInfo] operatingSystemVersionString] UTF8String];
    const char *name = [[gpu name] UTF8String];
    struct ell_sha256 hash;
    char digits[65], file[80];
    ell_sha256_start(&hash);
    ell_sha256_add(&hash, system != NULL ? system : "", system != NULL ? strlen(system) + 1 : 1);
    ell_sha256_add(&hash, name != NULL ? name : "", name != NULL ? strlen(name) + 1 : 1);
    ell_sha256_add(&hash, source->entry, strlen(source->entry) + 1);
    ell_sha256_add(&hash, &source->threads, sizeof source->threads);
    ell_sha256_add(&hash, source->text.data, source->text.size);
    ell_sha256_end(&hash, digits);
    snprintf(file, sizeof file, "%.32s.metalarchive", digits);
    return ell_path(cache, ell_text_of(file));
}

/* An archive from a file, or an empty one; nil if it cannot be used here. */
static id<MTLBinaryArchive> new_archive(id<MTLDevice> gpu, const char *path)
{
    MTLBinaryArchiveDescriptor *descriptor = [[MTLBinaryArchiveDescriptor alloc] init];
    [descriptor setUrl:path != NULL ? url_of(path) : nil];
    id<MTLBinaryArchive> archive = [gpu newBinaryArchiveWithDescriptor:descriptor error:NULL];
    LET_GO_NEW(descriptor);
    return archive;
}

/* Keep an archive for the next time. It is no error if that fails: kernels are then compiled again. */
static void store(id<MTLBinaryArchive> archive, const char *path)
{
    size_t room = strlen(path) + 32;
    char *temporary = malloc(room);
    if (temporary == NULL)
        return;
    snprintf(temporary, room, "%s.%ld", path, (long)getpid());
    if (![archive serializeToURL:url_of(temporary) error:NULL] || rename(temporary, path) != 0)
        remove(temporary);
    free(temporary);
}

static id<MTLComputePipelineState> new_pipeline(id<MTLDevice> gpu, MTLComputePipelineDescriptor *descriptor,
                                                id<MTLBinaryArchive> archive, MTLPipelineOption option,
                                                NSError **problem)
{
    [descriptor setBinaryArchives:archive != nil ? [NSArray arrayWithObject:archive] : nil];
    return [gpu newComputePipelineStateWithDescriptor:descriptor options:option reflection:NULL error:problem];
}

static id<MTLComputePipelineState> cached_pipeline(id<MTLDevice> gpu, MTLComputePipelineDescriptor *descriptor,
                                                   const char *path, NSError **problem)
{
    id<MTLComputePipelineState> pipeline = nil;
    id<MTLBinaryArchive> archive = access(path, R_OK) == 0 ? new_archive(gpu, path) : nil;
    if (archive != nil) {
        pipeline = new_pipeline(gpu, descriptor, archive, MTLPipelineOptionFailOnBinaryArchiveMiss, NULL);
        LET_GO_NEW(archive);
        if (pipeline != nil)
            return pipeline;
    }
    archive = new_archive(gpu, NULL);
    if (archive != nil && [archive addComputePipelineFunctionsWithDescriptor:descriptor error:NULL])
        store(archive, path);
    pipeline = new_pipeline(gpu, descriptor, archive, MTLPipelineOptionNone, problem);
    LET_GO_NEW(archive);
    return pipeline;
}

static id<MTLFunction> new_function(id<MTLDevice> gpu, const struct ell_source *source, struct ell_error *error)
{
    NSError *problem = nil;
    NSString *text = new_string(source->text.data, source->text.size);
    NSString *entry = new_string(source->entry, strlen(source->entry));
    MTLCompileOptions *options = [[MTLCompileOptions alloc] init];
    /* Fixed, so that the same text means the same with every later system; and as it is written. */
    [options setLanguageVersion:MTLLanguageVersion3_0];
    [options setFastMathEnabled:NO];
    id<MTLLibrary> library = nil;
    id<MTLFunction> function = nil;
    if (text == nil || entry == nil)
        ell_fail(error, "the text of the kernel %s is not UTF-8; build the bundle again", source->kernel);
    else if ((library = [gpu newLibraryWithSource:text options:options error:&problem]) == nil)
        ell_fail(error, "Metal refuses the kernel %s: %.300s; a newer system may take it", source->kernel,
                 ell_metal_reason(problem));
    else if ((function = [library newFunctionWithName:entry]) == nil)
        ell_fail(error, "the kernel %s has no function %s; build the bundle again", source->kernel, source->entry);
    LET_GO_NEW(library);
    LET_GO_NEW(options);
    LET_GO_NEW(entry);
    LET_GO_NEW(text);
    return function;
}

void *ell_metal_compile(id<MTLDevice> gpu, const char *cache, const struct ell_source *source,
                        struct ell_error *error)
{
    NSError *problem = nil;
    id<MTLFunction> function = new_function(gpu, source, error);
    if (function == nil)
        return NULL;
    MTLComputePipelineDescriptor *descriptor = [[MTLComputePipelineDescriptor alloc] init];
    [descriptor setComputeFunction:function];
    /* So that no kernel uses more registers than leave room for its threads. */
    [descriptor setMaxTotalThreadsPerThreadgroup:source->threads];
    char *path = cache != NULL ? place_of(gpu, cache, source) : NULL;
    id<MTLComputePipelineState> pipeline =
        path != NULL ? cached_pipeline(gpu, descriptor, path, &problem)
                     : new_pipeline(gpu, descriptor, nil, MTLPipelineOptionNone, &problem);
    void *kept = KEEP_NEW(pipeline);
    if (kept == NULL)
        ell_fail(error, "the GPU cannot run the kernel %s: %.300s; a newer system may", source->kernel,
                 ell_metal_reason(problem));
    else if ([pipeline maxTotalThreadsPerThreadgroup] < source->threads) {
        ell_fail(error, "the GPU runs %lu threads of the kernel %s together and it needs %lu; build the bundle for a "
                        "target with lower limits",
                 (unsigned long)[pipeline maxTotalThreadsPerThreadgroup], source->kernel,
                 (unsigned long)source->threads);
        LET_GO(kept);
        kept = NULL;
    }
    free(path);
    LET_GO_NEW(descriptor);
    LET_GO_NEW(function);
    return kept;
}
