"""Builds the C core (native/) with zig's C compiler: for Android without an NDK, and for Linux.

Android's C library has the ABI of the kernel's structures, as musl has, so musl's headers that come with zig
will do, with one difference: the function behind `errno` has another name. What is linked against are empty
libraries with the names and the functions of Android's own (a list of what every Android from 6.0, API 23,
exports), so a function that is not there is an error when linking.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from edgellm.errors import EdgeLLMError, MissingDependencyError
from edgellm.resources import data_dir

LIBRARY_NAME = "libedgellm.so"
PROGRAM_NAME = "edgellm-native"
PAGE_BYTES = 16384
"""Alignment of what is loaded: devices have pages of 4 or 16 KiB."""

ANDROID_EXPORTS: dict[str, str] = {
    "libc.so": """
        __cxa_atexit __cxa_finalize __errno __libc_init abort access atoi atol calloc clock_gettime close
        exit fclose fflush fgetc fopen fprintf fputc fputs fread free fseek fstat fsync ftell ftruncate
        fwrite getchar getenv getpid gettimeofday gmtime_r ldexp localeconv localtime_r lseek lstat malloc
        memchr memcmp memcpy memmove memset mkdir mmap munmap nanosleep open posix_memalign pread printf
        pthread_attr_destroy pthread_attr_init pthread_cond_broadcast pthread_cond_destroy pthread_cond_init
        pthread_cond_signal pthread_cond_timedwait pthread_cond_wait pthread_create pthread_detach
        pthread_getspecific pthread_join pthread_key_create pthread_key_delete pthread_mutex_destroy
        pthread_mutex_init pthread_mutex_lock pthread_mutex_unlock pthread_once pthread_self
        pthread_setspecific putchar puts qsort raise read realloc remove rename rmdir scanf sched_yield
        snprintf sprintf sscanf stat strcasecmp strcat strchr strcmp strcpy strcspn strdup strerror strlen
        strncasecmp strncmp strncpy strnlen strpbrk strrchr strspn strstr strtod strtof strtok_r strtol
        strtoll strtoul strtoull sysconf time unlink usleep vfprintf vsnprintf write
    """,
    "libm.so": """
        acos asin atan atan2 ceil ceilf cos cosf exp exp2 expf fabs floor floorf fmax fmin fmod frexp log
        log10 log2 logf lround modf nearbyint pow powf rint round roundf scalbn sin sincos sinf sqrt sqrtf
        tan tanh trunc
    """,
    "libdl.so": "dladdr dlclose dlerror dlopen dlsym",
    "liblog.so": "__android_log_print __android_log_write",
}
"""Functions that native code here may use: by bionic's lists of exports (lib*.map.txt), in every version of
the 64-bit libraries from Android 6.0 on."""
_VARIABLES = ("stderr", "stdin", "stdout")

_COMPILE = (
    "-std=c11",
    "-O2",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-sanitize=undefined",
)
_ANDROID = (
    "-target",
    "aarch64-linux-android",
    "-nostdinc",
    "-D__errno_location=__errno",
    "-fno-stack-protector",
)
_START = r"""
typedef int main_function(int, char **, char **);
int main(int, char **);
__attribute__((noreturn)) void __libc_init(void *, void (*)(void), main_function *, const void *);
__attribute__((noreturn, used)) static void begin(void *stack)
{
    static const void *const no_constructors[8];
    __libc_init(stack, 0, (main_function *)main, no_constructors);
}
__attribute__((naked, noreturn, visibility("default"))) void _start(void)
{
    __asm__("mov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tb begin");
}
"""
"""What the NDK's crtbegin does in an executable without constructors: bionic's __libc_init calls main."""


def native_dir() -> Path:
    """The folder of the C core's sources: of a checkout, or in an installed wheel."""
    folder = data_dir("native")
    if not (folder / "include" / "edgellm.h").is_file():
        raise EdgeLLMError(
            "the sources of the C core are not there; install edgellm from its wheel or a checkout"
        )
    return folder


def build_android_library(out: Path, sources: Sequence[Path] = (), include: Sequence[Path] = ()) -> Path:
    """Build `libedgellm.so` for arm64-v8a from native/src and more C `sources`, into the folder `out`.

    Exported are the functions of `edgellm.h` and what `sources` declare visible (as JNIEXPORT does).

    Args:
        include: folders of further headers, such as that of jni.h.

    Returns:
        The library's path.

    Raises:
        MissingDependencyError: ziglang is not installed.
        EdgeLLMError: a source does not compile, or needs what Android does not have.
    """
    return _build_android(out / LIBRARY_NAME, sources, include, ("-shared", f"-Wl,-soname,{LIBRARY_NAME}"))


def build_android_program(out: Path) -> Path:
    """Build the command-line program for arm64-v8a, to be run through adb, into the folder `out`.

    Raises: as `build_android_library`.
    """
    main = native_dir() / "cli" / f"{PROGRAM_NAME}.c"
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch) / "start.c"
        start.write_text(_START, encoding="utf-8")
        flags = ("-pie", "-Wl,--dynamic-linker=/system/bin/linker64")
        return _build_android(out / PROGRAM_NAME, (main, start), (), flags)


def build_linux_library(out: Path, sources: Sequence[Path] = (), include: Sequence[Path] = ()) -> Path:
    """As `build_android_library`, for this machine's Linux (glibc 2.28 or newer): a JVM can load it."""
    return _link_linux(out / LIBRARY_NAME, sources, include, ("-shared", f"-Wl,-soname,{LIBRARY_NAME}"))


def build_linux_program(out: Path) -> Path:
    """The command-line program for this machine's Linux, into the folder `out`."""
    return _link_linux(out / PROGRAM_NAME, (native_dir() / "cli" / f"{PROGRAM_NAME}.c",), (), ("-pie",))


def _link_linux(target: Path, sources: Sequence[Path], include: Sequence[Path], link: Sequence[str]) -> Path:
    processor = _processor()
    _zig(
        "cc", "-target", f"{processor}-linux-gnu.2.28", *_COMPILE, *_inputs(sources, include), *link,
        "-Wl,--strip-all", "-Wl,-z,relro", "-Wl,-z,now", "-lm", "-lpthread", "-ldl", "-o", str(_made(target)),
    )  # fmt: skip
    return target


def _processor() -> str:
    if sys.platform != "linux":
        raise EdgeLLMError("this builds for the Linux it runs on; elsewhere use native/CMakeLists.txt")
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())


def _build_android(
    target: Path, sources: Sequence[Path], include: Sequence[Path], link: Sequence[str]
) -> Path:
    headers = [f"-isystem{folder}" for folder in _headers()]
    with tempfile.TemporaryDirectory() as scratch:
        _zig(
            "cc", *_ANDROID, *_COMPILE, *headers, *_inputs(sources, include), *link,
            "-nostdlib", "-nostartfiles", *map(str, _empty_libraries(Path(scratch))), "-Wl,--as-needed",
            "-Wl,-z,defs", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack",
            f"-Wl,-z,max-page-size={PAGE_BYTES}", "-Wl,--strip-all", "-o", str(_made(target)),
        )  # fmt: skip
    return target


def _inputs(sources: Sequence[Path], include: Sequence[Path]) -> list[str]:
    native = native_dir()
    folders = [native / "include", native / "src", *include]
    return [f"-I{folder}" for folder in folders] + [
        str(one) for one in (*sorted((native / "src").glob("*.c")), *sources)
    ]


def _headers() -> list[Path]:
    """Those of the C compiler and of musl, as they come with zig."""
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise _no_zig()
    lib = Path(spec.origin).parent / "lib"
    found = [lib / "include"] + [
        lib / "libc" / "include" / name for name in ("aarch64-linux-musl", "generic-musl")
    ]
    if missing := [folder for folder in found if not folder.is_dir()]:
        raise EdgeLLMError(f"the installed ziglang has no {missing[0]}; install edgellm[tvm] again")
    return found


def _empty_libraries(folder: Path) -> list[Path]:
    """Libraries with the names of Android's and functions that do nothing, to link against."""
    libraries = []
    for name, functions in ANDROID_EXPORTS.items():
        source, library = folder / f"{name}.c", folder / name
        lines = [f"void {function}(void) {{}}" for function in functions.split()]
        lines += [f"void *{variable};" for variable in _VARIABLES if name == "libc.so"]
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _zig(
            "cc", *_ANDROID, "-ffreestanding", "-fno-builtin", "-fPIC", "-w", "-shared", "-nostdlib",
            f"-Wl,-soname,{name}", str(source), "-o", str(library),
        )  # fmt: skip
        libraries.append(library)
    return libraries


def _made(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _no_zig() -> MissingDependencyError:
    return MissingDependencyError(
        "native code is compiled by the package ziglang: pip install 'edgellm[tvm]'"
    )


def _zig(*arguments: str) -> None:
    if find_spec("ziglang") is None:
        raise _no_zig()
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeLLMError(f"zig {arguments[0]} failed: {done.stderr.strip()[-2000:]}")
