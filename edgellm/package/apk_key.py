"""The key that signs an APK: the developer's, or one for tries that is made once and kept."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgellm.errors import EdgeLLMError, UsageError
from edgellm.package.apk_tools import Tools, call

PASSWORD_VARIABLE = "EDGELLM_KEYSTORE_PASSWORD"
"""Where the password of --keystore is: options can be seen by all users of a machine."""
# As in Android Studio's own: nothing is protected by them.
_DEBUG_PASSWORD = "android"
_DEBUG_ALIAS = "androiddebugkey"
_DAYS = 30 * 365


@dataclass(frozen=True)
class Key:
    """A key in a keystore. `alias`: None where the keystore has one key."""

    keystore: Path
    alias: str | None
    password: str


def given_key(keystore: Path, alias: str | None) -> Key:
    """The developer's. UsageError: it is not there, or its password is not known."""
    if not keystore.is_file():
        raise UsageError(f"--keystore {keystore} is not there; make one with keytool -genkeypair")
    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        raise UsageError(f"--keystore {keystore} needs its password in the variable {PASSWORD_VARIABLE}")
    return Key(keystore.resolve(), alias, password)


def debug_key(tools: Tools) -> Key:
    """The key for tries; it is made when it is not there.

    It lies in EDGELLM_CONFIG, or else where the system keeps settings. An app that is signed with another key
    is another app to a phone, so it is kept.
    """
    keystore = config_dir() / "android-debug.keystore"
    if not keystore.is_file():
        try:
            _make(tools, keystore)
        except OSError as error:
            raise EdgeLLMError(
                f"the key for tries cannot be written to {keystore}: {error.strerror}; set EDGELLM_CONFIG to "
                "a directory that can be written, or give --keystore"
            ) from None
    return Key(keystore, _DEBUG_ALIAS, _DEBUG_PASSWORD)


def config_dir() -> Path:
    """Where settings are kept: EDGELLM_CONFIG, or what the system has for that."""
    if chosen := os.environ.get("EDGELLM_CONFIG"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "edgellm"


def _make(tools: Tools, keystore: Path) -> None:
    keystore.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=keystore.parent) as scratch:
        made = Path(scratch) / "keystore"
        call(
            [
                tools.keytool, "-genkeypair", "-keystore", made, "-storetype", "PKCS12",
                "-alias", _DEBUG_ALIAS, "-storepass", _DEBUG_PASSWORD, "-keyalg", "RSA",
                "-keysize", "2048", "-validity", str(_DAYS),
                "-dname", "CN=Android Debug, O=edgellm",
            ],
            "making the key for tries",
            keystore.parent,
        )  # fmt: skip
        made.chmod(0o600)
        made.replace(keystore)
