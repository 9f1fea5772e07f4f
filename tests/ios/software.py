"""The C core with its Metal host over a Metal of software, for machines without a GPU of Apple's.

`software_metal.m` has Metal's classes on GNU's Objective-C runtime; kernels are their texts, compiled as C++.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.plan import PLAN_NAME
from tests.compile.textual.host import compile_texts
from tests.native.programs import FLAGS, NATIVE, zig
from tests.support import require

HERE = Path(__file__).parent
APPLE = HERE / "apple"
"""Headers: what of Foundation and Metal is used, declared as Apple's documentation does."""
OBJECTIVE_C = ("-fblocks", "-Wno-nullability-completeness", f"-I{APPLE}")
_OWN = ("-DELL_METAL", "-D_GNU_SOURCE", "-fPIC", f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}")
_RUNTIME = "libobjc.so.4"


def sources(ending: str) -> list[Path]:
    """The core's files in C or Objective-C."""
    return sorted((NATIVE / "src").glob(f"*{ending}"))


def runtime() -> Path:
    """GNU's Objective-C runtime; the test is skipped without it, and fails under CI=true."""
    places = ("/usr/lib", "/usr/lib64", "/lib")
    for place in places:
        if found := sorted(Path(place).glob(f"**/{_RUNTIME}")):
            return found[0]
    message = f"{_RUNTIME} is missing: it runs Objective-C here; on Debian and Ubuntu: apt install libobjc4"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def build(folder: Path, programs: Iterable[str] = ("conformance", "edgellm-native")) -> Path:
    """Compile the core, its programs and `libedgellm.so` into `folder`, warnings being errors.

    Returns:
        `folder`.
    """
    require(module="ziglang", reason="compiles Objective-C: pip install 'edgellm[tvm]'")
    objective_c = runtime()
    called = zig(*FLAGS, *_OWN)
    # Pedantry would refuse Objective-C's own idioms.
    called_objective_c = [*called, "-Wno-pedantic", "-fobjc-runtime=gcc", *OBJECTIVE_C]
    subprocess.run([*called, "-c", *sources(".c")], cwd=folder, check=True)
    subprocess.run(
        [*called_objective_c, "-c", *sources(".m"), HERE / "software_metal.m"], cwd=folder, check=True
    )
    objects = sorted(folder.glob("*.o"))
    libraries = [objective_c, "-lm", "-lpthread", "-ldl"]
    for name in programs:
        source = NATIVE / "cli" / f"{name}.c"
        subprocess.run([*called, source, *objects, *libraries, "-o", folder / name], check=True)
    subprocess.run([*called, "-shared", *objects, *libraries, "-o", folder / "libedgellm.so"], check=True)
    return folder


def compile_program(program: Path, out: Path) -> Path:
    """Make what SOFTWARE_METAL names of a program's folder: a library of its kernels, and their texts.

    Returns:
        `out`.
    """
    plan = decode_plan((program / PLAN_NAME).read_bytes(), str(program))
    texts = {kernel.source: (program / kernel.source).read_text() for kernel in plan.kernels}
    (out / "texts").mkdir(parents=True)
    for name, text in texts.items():
        (out / "texts" / name).write_text(text)
    compile_texts(plan, texts, out)
    return out


def environment(programs: Iterable[Path], *, fail: str = "", log: Path | None = None) -> dict[str, str]:
    """Of a process that uses the software Metal; see software_metal.m."""
    return (
        os.environ
        | {"SOFTWARE_METAL": ":".join(map(str, programs)), "SOFTWARE_METAL_FAIL": fail}
        | ({} if log is None else {"SOFTWARE_METAL_LOG": str(log)})
    )
