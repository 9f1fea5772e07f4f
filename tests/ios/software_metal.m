// Metal without a GPU: classes with the interfaces of apple/Metal/Metal.h, on GNU's Objective-C runtime. Kernels are
// those of libraries that tests/compile/textual makes of Metal texts; a text that none of them was made of is refused.
//
// It is stricter than Metal: work is done when it is waited for and not before, memory that was not written is no
// zeros, every argument of a kernel must be bound to what it takes, objects that work uses must live until it is done,
// nothing may be autoreleased without a pool, and at the end of the process no object may be left.
//
// Environment: SOFTWARE_METAL: folders of libraries, each with texts/ and program.so, separated by colons.
// SOFTWARE_METAL_LOG: file to which lines about what happens are added. SOFTWARE_METAL_FAIL: what goes wrong, words
// separated by commas: device, queue, memory=BYTES, process=BYTES
// (what is left of either), buffer=BYTES (the largest there is memory for), nocopy, text, threads=N, archive, step=CODE, after=N (steps).
#include <Metal/Metal.h>
#include <dirent.h>
#include <dlfcn.h>
#include <os/proc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 31, MAX_WORK = 4096 };
static const NSUInteger THREADS = 1024;

typedef void (*Run)(void**, int32_t*, const unsigned*, const unsigned*);

id class_createInstance(Class, size_t);

static atomic_long live;
static atomic_int steps;

#define CHECK(condition, what) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "software metal: %s\n", what); \
      abort(); \
    } \
  } while (0)

static void note(const char* what, const char* name, unsigned long number) {
  const char* path = getenv("SOFTWARE_METAL_LOG");
  FILE* file = path != NULL ? fopen(path, "a") : NULL;
  if (file == NULL) return;
  fprintf(file, "%s %s %lu\n", what, name, number);
  fclose(file);
}

/* The number after WORD= in what goes wrong, 0 for WORD alone; -1 if it is not there. */
static long fault(const char* word) {
  const char* at = getenv("SOFTWARE_METAL_FAIL");
  size_t size = strlen(word);
  for (; at != NULL && *at != '\0'; at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL)
    if (strncmp(at, word, size) == 0 && (at[size] == '\0' || at[size] == ',' || at[size] == '='))
      return at[size] == '=' ? strtol(at + size + 1, NULL, 10) : 0;
  return -1;
}

static _Thread_local NSAutoreleasePool* pool;

@implementation NSObject
+ (id)alloc {
  NSObject* made = class_createInstance((Class)self, 0);
  made->references = 1;
  live++;
  return made;
}
+ (id)new {
  return [[self alloc] init];
}
- (id)init {
  return self;
}
- (id)retain {
  CHECK(references > 0, "an object is retained that is gone");
  references++;
  return self;
}
- (oneway void)release {
  CHECK(references > 0, "an object is released that is gone");
  if (references == 1) {
    [self dealloc];
    live--;
  }
  references--; /* its memory stays, so that a later use is found */
}
- (id)autorelease {
  CHECK(pool != nil, "an object is autoreleased without a pool");
  if (pool->count == pool->room) {
    pool->room = pool->room * 2 + 16;
    pool->objects = realloc(pool->objects, pool->room * sizeof *pool->objects);
  }
  pool->objects[pool->count++] = self;
  return self;
}
- (void)dealloc {
}
@end

@implementation NSAutoreleasePool
- (id)init {
  outer = pool;
  pool = self;
  return self;
}
- (void)drain {
  CHECK(pool == self, "pools end in another order than they began");
  while (count > 0) [objects[--count] release];
  free(objects);
  pool = outer;
  [self release];
}
@end

@implementation NSString
- (instancetype)initWithBytes:(const void*)bytes length:(NSUInteger)length encoding:(NSStringEncoding)encoding {
  CHECK(encoding == NSUTF8StringEncoding, "a string is in another encoding");
  for (NSUInteger i = 0; i < length; i++)
    if (((const uint8_t*)bytes)[i] == 0xFF) { /* enough to try what happens */
      [self release];
      return nil;
    }
  _text = strndup(bytes, length);
  return self;
}
- (const char*)UTF8String {
  return _text;
}
- (void)dealloc {
  free(_text);
  [super dealloc];
}
@end

static NSString* string(const char* text) {
  return [[[NSString alloc] initWithBytes:text length:strlen(text) encoding:NSUTF8StringEncoding] autorelease];
}

@implementation NSURL
+ (NSURL*)fileURLWithPath:(NSString*)path {
  NSURL* made = [[self new] autorelease];
  made->_path = [path retain];
  return made;
}
- (void)dealloc {
  [_path release];
  [super dealloc];
}
@end

@implementation NSError
- (NSInteger)code {
  return _number;
}
- (NSString*)localizedDescription {
  return _text;
}
- (void)dealloc {
  [_text release];
  [super dealloc];
}
@end

static NSError* failure(NSInteger code, const char* text) {
  NSError* made = [[NSError new] autorelease];
  made->_number = code;
  made->_text = [string(text) retain];
  return made;
}
static id refuse(NSError** error, const char* text) {
  if (error != NULL) *error = failure(1, text);
  return nil;
}

@implementation NSArray
+ (instancetype)arrayWithObject:(id)object {
  NSArray* made = [[self new] autorelease];
  made->_object = [object retain];
  return made;
}
- (void)dealloc {
  [_object release];
  [super dealloc];
}
@end

@implementation NSProcessInfo
+ (NSProcessInfo*)processInfo {
  return [[self new] autorelease];
}
- (NSString*)operatingSystemVersionString {
  const char* version = getenv("SOFTWARE_METAL_SYSTEM");
  return string(version != NULL ? version : "Version 16.0 (Build 1)");
}
@end

@implementation MTLCompileOptions
@synthesize fastMathEnabled = _fast, languageVersion = _version;
- (id)init {
  _fast = YES;
  return self;
}
@end

@interface SoftwareFunction : NSObject <MTLFunction> {
 @public
  char *_name, *_text;
  Run _run;
  int _arguments, _sizes; /* of it, the last one being a struct of sizes if there are any */
}
@end
@implementation SoftwareFunction
- (void)dealloc {
  free(_name);
  free(_text);
  [super dealloc];
}
@end

@interface SoftwareLibrary : NSObject <MTLLibrary> {
 @public
  NSString* _source;
  void* _library;
}
@end
@implementation SoftwareLibrary
- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  char line[300], symbol[300];
  const char *text = _source->_text, *entry = name->_text;
  snprintf(line, sizeof line, "kernel void %s(", entry);
  if (strstr(text, line) == NULL) return nil;
  snprintf(symbol, sizeof symbol, "run_%.*s", (int)(strlen(entry) - strlen("_kernel")), entry);
  SoftwareFunction* made = [SoftwareFunction new];
  *(void**)&made->_run = dlsym(_library, symbol);
  CHECK(made->_run != NULL, "a library lacks a kernel");
  made->_name = strdup(entry);
  made->_text = strdup(text);
  for (const char* at = text; (at = strstr(at, "[[ buffer(")) != NULL; at++) made->_arguments++;
  const char *start = strstr(text, "_args_t {"), *end = start != NULL ? strstr(start, "};") : NULL;
  for (const char* at = start; start != NULL && (at = strstr(at, "  int ")) != NULL && at < end; at++) made->_sizes++;
  return made;
}
- (void)dealloc {
  [_source release];
  [super dealloc];
}
@end

@implementation MTLComputePipelineDescriptor
@synthesize maxTotalThreadsPerThreadgroup = _threads;
@dynamic computeFunction, binaryArchives;
- (void)setComputeFunction:(id<MTLFunction>)function {
  [function retain];
  [_function release];
  _function = function;
}
- (id<MTLFunction>)computeFunction {
  return _function;
}
- (void)setBinaryArchives:(NSArray*)archives {
  [archives retain];
  [_archives release];
  _archives = archives;
}
- (NSArray*)binaryArchives {
  return _archives;
}
- (void)dealloc {
  [_function release];
  [_archives release];
  [super dealloc];
}
@end

@interface SoftwarePipeline : NSObject <MTLComputePipelineState> {
 @public
  SoftwareFunction* _function;
  NSUInteger _threads;
}
@end
@implementation SoftwarePipeline
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return _threads;
}
- (void)dealloc {
  [_function release];
  [super dealloc];
}
@end

@implementation MTLBinaryArchiveDescriptor
@dynamic url;
- (void)setUrl:(NSURL*)url {
  [url retain];
  [_url release];
  _url = url;
}
- (NSURL*)url {
  return _url;
}
- (void)dealloc {
  [_url release];
  [super dealloc];
}
@end

static const char MAGIC[] = "software metal archive\n";

@interface SoftwareArchive : NSObject <MTLBinaryArchive> {
 @public
  char* _text; /* of the one kernel in it */
}
@end
@implementation SoftwareArchive
- (BOOL)addComputePipelineFunctionsWithDescriptor:(MTLComputePipelineDescriptor*)descriptor error:(NSError**)error {
  if (fault("archive") >= 0) return refuse(error, "no archives today") != nil;
  SoftwareFunction* function = [descriptor computeFunction];
  note("compiled", function->_name, 1);
  _text = strdup(function->_text);
  return YES;
}
- (BOOL)serializeToURL:(NSURL*)url error:(NSError**)error {
  FILE* file = fopen(url->_path->_text, "w");
  if (file == NULL) return refuse(error, "cannot write") != nil;
  fputs(MAGIC, file);
  fputs(_text, file);
  return fclose(file) == 0;
}
- (void)dealloc {
  free(_text);
  [super dealloc];
}
@end

static char* contents_of(const char* path) {
  FILE* file = fopen(path, "r");
  if (file == NULL) return NULL;
  char* text = calloc(1, 4 << 20);
  text[fread(text, 1, (4 << 20) - 1, file)] = '\0';
  fclose(file);
  return text;
}

@interface SoftwareBuffer : NSObject <MTLBuffer> {
 @public
  char* _contents;
  NSUInteger _length;
  BOOL _owned;
}
@end
@implementation SoftwareBuffer
- (NSUInteger)length {
  return _length;
}
- (void*)contents {
  return _contents;
}
- (void)dealloc {
  if (_owned) free(_contents);
  [super dealloc];
}
@end

struct argument {
  SoftwareBuffer* buffer;
  NSUInteger offset;
  int32_t sizes[16];
  NSUInteger size_bytes;
};

struct work {
  SoftwarePipeline* pipeline;
  struct argument arguments[MAX_ARGUMENTS];
  unsigned grid[3], threads[3];
};

@class SoftwareCommands;

@interface SoftwareQueue : NSObject <MTLCommandQueue> {
 @public
  SoftwareCommands* _committed[256]; /* not yet done, in order */
  int _count;
}
@end

@interface SoftwareCommands : NSObject <MTLCommandBuffer> {
 @public
  SoftwareQueue* _queue;
  struct work* _work;
  int _count;
  BOOL _encoding;
  MTLCommandBufferStatus _status;
  NSError* _error;
}
@end

@interface SoftwareEncoder : NSObject <MTLComputeCommandEncoder> {
 @public
  SoftwareCommands* _commands;
  struct work _next;
}
@end

@implementation SoftwareEncoder
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
  CHECK(_commands->_encoding, "something is set when encoding has ended");
  _next.pipeline = state;
}
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  CHECK(_commands->_encoding && index < MAX_ARGUMENTS && offset % 16 == 0, "a buffer is set wrongly");
  CHECK(offset < ((SoftwareBuffer*)buffer)->_length, "an offset is not in the buffer");
  _next.arguments[index] = (struct argument){.buffer = buffer, .offset = offset};
}
- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  CHECK(_commands->_encoding && index < MAX_ARGUMENTS && length <= 64, "sizes are set wrongly");
  _next.arguments[index] = (struct argument){.size_bytes = length};
  memcpy(_next.arguments[index].sizes, bytes, length);
}
- (void)dispatchThreadgroups:(MTLSize)grid threadsPerThreadgroup:(MTLSize)threads {
  CHECK(_commands->_encoding && _commands->_count < MAX_WORK, "a launch comes when encoding has ended");
  CHECK(_next.pipeline != nil, "a launch has no kernel");
  CHECK(grid.width && grid.height && grid.depth, "a grid is empty");
  NSUInteger together = threads.width * threads.height * threads.depth;
  CHECK(together > 0 && together <= _next.pipeline->_threads, "a launch has more threads than its kernel allows");
  SoftwareFunction* function = _next.pipeline->_function;
  for (int i = 0; i < function->_arguments; i++) {
    const struct argument* one = &_next.arguments[i];
    bool sizes = function->_sizes != 0 && i == function->_arguments - 1;
    CHECK(sizes ? one->size_bytes == 4 * (NSUInteger)function->_sizes : one->buffer != nil,
          "an argument of a kernel is not bound to what it takes");
  }
  for (int i = 0; i < 3; i++) {
    _next.grid[i] = (unsigned)(i == 0 ? grid.width : i == 1 ? grid.height : grid.depth);
    _next.threads[i] = (unsigned)(i == 0 ? threads.width : i == 1 ? threads.height : threads.depth);
  }
  _commands->_work = realloc(_commands->_work, (size_t)(_commands->_count + 1) * sizeof _next);
  _commands->_work[_commands->_count++] = _next;
}
- (void)endEncoding {
  CHECK(_commands->_encoding, "encoding ends twice");
  _commands->_encoding = NO;
}
- (void)dealloc {
  CHECK(!_commands->_encoding, "an encoder goes before encoding has ended");
  [_commands release];
  [super dealloc];
}
@end

static void run(const struct work* work) {
  void* buffers[MAX_ARGUMENTS];
  int32_t* sizes = NULL;
  CHECK(work->pipeline->references > 0, "a kernel is gone before a launch of it is done");
  SoftwareFunction* function = work->pipeline->_function;
  for (int i = 0; i < function->_arguments; i++) {
    const struct argument* one = &work->arguments[i];
    CHECK(one->buffer == nil || one->buffer->references > 0, "a buffer is gone before a launch with it is done");
    buffers[i] = one->buffer != nil ? one->buffer->_contents + one->offset : NULL;
    if (one->buffer == nil) sizes = (int32_t*)one->sizes;
  }
  function->_run(buffers, sizes, work->grid, work->threads);
}

@implementation SoftwareCommands
- (MTLCommandBufferStatus)status {
  return _status;
}
- (NSError*)error {
  return _error;
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  CHECK(_status == MTLCommandBufferStatusNotEnqueued && !_encoding, "an encoder is made too late, or a second one");
  SoftwareEncoder* made = [[SoftwareEncoder new] autorelease];
  made->_commands = [self retain];
  _encoding = YES;
  return made;
}
- (void)commit {
  CHECK(_status == MTLCommandBufferStatusNotEnqueued && !_encoding, "commands are committed too early or twice");
  CHECK(_queue->_count < 256, "too many commands wait");
  _status = MTLCommandBufferStatusCommitted;
  _queue->_committed[_queue->_count++] = [self retain];
}
- (void)execute {
  long code = fault("step");
  if (code >= 0 && steps++ >= (fault("after") > 0 ? fault("after") : 0)) {
    _error = [failure(code, "the software GPU was told to fail") retain];
    _status = MTLCommandBufferStatusError;
    return;
  }
  // Kernels share what they run on, whichever engine of the process launches them.
  static pthread_mutex_t turns = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&turns);
  for (int i = 0; i < _count; i++) run(&_work[i]);
  pthread_mutex_unlock(&turns);
  note("step", "launches", (unsigned long)_count);
  _status = MTLCommandBufferStatusCompleted;
}
- (void)waitUntilCompleted {
  CHECK(_status >= MTLCommandBufferStatusCommitted, "commands are waited for that are not committed");
  SoftwareQueue* queue = _queue;
  for (bool found = _status >= MTLCommandBufferStatusCompleted; !found;) {
    SoftwareCommands* first = queue->_committed[0];
    memmove(queue->_committed, queue->_committed + 1, (size_t)--queue->_count * sizeof first);
    [first execute];
    found = first == self;
    [first release];
  }
}
- (void)dealloc {
  CHECK(_status >= MTLCommandBufferStatusCompleted, "commands are let go of before they are done");
  free(_work);
  [_error release];
  [_queue release];
  [super dealloc];
}
@end

@implementation SoftwareQueue
- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  SoftwareCommands* made = [[SoftwareCommands new] autorelease];
  made->_queue = [self retain];
  return made;
}
@end

@interface SoftwareDevice : NSObject <MTLDevice>
@end
@implementation SoftwareDevice
- (NSString*)name {
  return string("Software GPU");
}
- (unsigned long long)recommendedMaxWorkingSetSize {
  return fault("memory") >= 0 ? (unsigned long long)fault("memory") : 1ull << 30;
}
- (NSUInteger)currentAllocatedSize {
  return 0;
}
- (NSUInteger)maxBufferLength {
  return 256ul << 20;
}
- (NSUInteger)maxThreadgroupMemoryLength {
  return 32768;
}
- (MTLSize)maxThreadsPerThreadgroup {
  return MTLSizeMake(THREADS, THREADS, THREADS);
}
- (id<MTLCommandQueue>)newCommandQueue {
  return fault("queue") >= 0 ? nil : [SoftwareQueue new];
}
- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  CHECK(options == MTLResourceStorageModeShared && length > 0, "a buffer is made wrongly");
  if (fault("buffer") >= 0 && length > (NSUInteger)fault("buffer")) return nil;
  SoftwareBuffer* made = [SoftwareBuffer new];
  made->_contents = aligned_alloc(64, (length + 63) / 64 * 64);
  memset(made->_contents, 0xA5, length);
  made->_length = length;
  made->_owned = YES;
  note("buffer", "bytes", length);
  return made;
}
- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void*)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void (^)(void*, NSUInteger))deallocator {
  NSUInteger page = (NSUInteger)sysconf(_SC_PAGESIZE);
  CHECK(options == MTLResourceStorageModeShared && deallocator == NULL, "a buffer is made wrongly");
  CHECK((uintptr_t)pointer % page == 0 && length % page == 0 && length > 0, "mapped memory is not whole pages");
  if (fault("nocopy") >= 0) return nil;
  SoftwareBuffer* made = [SoftwareBuffer new];
  made->_contents = pointer;
  made->_length = length;
  note("mapped", "bytes", length);
  return made;
}
- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source options:(MTLCompileOptions*)options error:(NSError**)error {
  CHECK(!options.fastMathEnabled && options.languageVersion == MTLLanguageVersion3_0, "a text is compiled wrongly");
  const char* known = getenv("SOFTWARE_METAL");
  char *folders = strdup(known != NULL ? known : ""), *rest = folders;
  SoftwareLibrary* made = nil;
  for (char* folder; made == nil && (folder = strsep(&rest, ":")) != NULL && fault("text") < 0;) {
    char path[4096];
    snprintf(path, sizeof path, "%s/texts", folder);
    DIR* listing = opendir(path);
    for (struct dirent* one; made == nil && listing != NULL && (one = readdir(listing)) != NULL;) {
      snprintf(path, sizeof path, "%s/texts/%s", folder, one->d_name);
      char* text = one->d_name[0] != '.' ? contents_of(path) : NULL;
      if (text != NULL && strcmp(text, source->_text) == 0) {
        made = [SoftwareLibrary new];
        made->_source = [source retain];
        snprintf(path, sizeof path, "%s/program.so", folder);
        made->_library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        CHECK(made->_library != NULL, "a library cannot be opened");
      }
      free(text);
    }
    if (listing != NULL) closedir(listing);
  }
  free(folders);
  return made != nil ? made : refuse(error, "program_source:1:1: error: this text was not compiled");
}
- (id<MTLComputePipelineState>)newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor*)descriptor
                                                             options:(MTLPipelineOption)options
                                                          reflection:(MTLComputePipelineReflection**)reflection
                                                               error:(NSError**)error {
  CHECK(reflection == NULL, "nobody needs a reflection");
  SoftwareFunction* function = [descriptor computeFunction];
  NSArray* archives = [descriptor binaryArchives];
  SoftwareArchive* archive = archives != nil ? archives->_object : nil;
  bool found = archive != nil && archive->_text != NULL && strcmp(archive->_text, function->_text) == 0;
  if (!found && options == MTLPipelineOptionFailOnBinaryArchiveMiss) return refuse(error, "not in the archive");
  note(found ? "found" : "compiled", function->_name, 1);
  SoftwarePipeline* made = [SoftwarePipeline new];
  made->_function = [function retain];
  made->_threads = fault("threads") >= 0 ? (NSUInteger)fault("threads") : descriptor.maxTotalThreadsPerThreadgroup;
  return made;
}
- (id<MTLBinaryArchive>)newBinaryArchiveWithDescriptor:(MTLBinaryArchiveDescriptor*)descriptor
                                                 error:(NSError**)error {
  SoftwareArchive* made = [SoftwareArchive new];
  if ([descriptor url] == nil) return made;
  char* text = contents_of([descriptor url]->_path->_text);
  if (text != NULL && strncmp(text, MAGIC, strlen(MAGIC)) == 0) {
    made->_text = strdup(text + strlen(MAGIC));
    free(text);
    return made;
  }
  free(text);
  [made release];
  return refuse(error, "this is no archive of this system");
}
@end

size_t os_proc_available_memory(void) { return fault("process") >= 0 ? (size_t)fault("process") : 1ul << 30; }

id<MTLDevice> MTLCreateSystemDefaultDevice(void) { return fault("device") >= 0 ? nil : [SoftwareDevice new]; }

__attribute__((destructor)) static void none_is_left(void) {
  for (int i = 0; i < 200 && live != 0; i++) usleep(10000);  // threads may be about to let go of what they have
  if (live == 0) return;
  fprintf(stderr, "software metal: %ld objects are left\n", (long)live);
  _exit(97);
}
