"""OpenCL drivers that do not export their functions, as on Google's phones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.programs import compiler

# Finds functions for others once it has been enabled, and says so where a test can see it.
DRIVER = r"""
#include <dlfcn.h>
#include <stdio.h>
static int enabled;
void enableOpenCL(void);
void *loadOpenCLPointer(const char *name);
void enableOpenCL(void)
{
    enabled = 1;
    fputs("enabled\n", stderr);
}
void *loadOpenCLPointer(const char *name)
{
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    return enabled && library ? dlsym(library, name) : 0;
}
"""


@pytest.mark.parametrize("enables", [True, False])
def test_functions_are_asked_for(
    programs: dict[str, Path], demo_adreno: Path, tmp_path: Path, enables: bool
) -> None:
    source = tmp_path / "driver.c"
    source.write_text(DRIVER if enables else "int nothing; int *loadOpenCLPointer(void) { return &nothing; }")
    library = tmp_path / "libOpenCL.so"
    subprocess.run([*compiler(), "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    command = [programs["edgellm-native"], demo_adreno, "--device", "0", "--max-tokens", "4", "--prompt", "a"]
    done = subprocess.run(
        command,
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if enables:
        assert (done.returncode, done.stderr) == (0, "enabled\n")
    else:
        assert done.returncode == 1 and "has no clGetPlatformIDs" in done.stderr
