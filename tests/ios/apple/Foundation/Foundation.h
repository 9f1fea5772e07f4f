// The part of Apple's Foundation that native/src/*.m use, declared as Apple's documentation does, for compilers
// elsewhere. On Apple's platforms NSObject is the system's; elsewhere software_metal.m has it.
#pragma once

#include <stddef.h>

#ifdef __APPLE__
#include <objc/NSObject.h>
#include <objc/objc.h>
#define VARIABLES(...)
#else
// Where a class is also implemented: what its objects hold.
#define VARIABLES(...) {@public __VA_ARGS__}
typedef signed char BOOL;
typedef unsigned long NSUInteger;
typedef long NSInteger;
#define YES ((BOOL)1)
#define NO ((BOOL)0)
#define nil ((id)0)

@protocol NSObject
- (id)retain;
- (oneway void)release;
- (id)autorelease;
@end

__attribute__((objc_root_class)) @interface NSObject <NSObject> VARIABLES(Class isa; long references;)
+ (id)alloc;
+ (id)new;
- (id)init;
- (void)dealloc;
@end

@interface NSAutoreleasePool : NSObject VARIABLES(NSAutoreleasePool* outer; id* objects; size_t count, room;)
- (void)drain;
@end
#endif

typedef NSUInteger NSStringEncoding;
enum { NSUTF8StringEncoding = 4 };

@interface NSString : NSObject VARIABLES(char* _text;)
- (instancetype)initWithBytes:(const void*)bytes length:(NSUInteger)length encoding:(NSStringEncoding)encoding;
@property(readonly) const char* UTF8String __attribute__((objc_returns_inner_pointer));
@end

@interface NSURL : NSObject VARIABLES(NSString* _path;)
+ (NSURL*)fileURLWithPath:(NSString*)path;
@end

@interface NSError : NSObject VARIABLES(NSInteger _number; NSString* _text;)
@property(readonly) NSInteger code;
@property(readonly, copy) NSString* localizedDescription;
@end

@interface NSArray<Object> : NSObject VARIABLES(id _object;)
+ (instancetype)arrayWithObject:(Object)object;
@end

@interface NSProcessInfo : NSObject
@property(class, readonly, strong) NSProcessInfo* processInfo;
@property(readonly, copy) NSString* operatingSystemVersionString;
@end
