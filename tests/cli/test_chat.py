"""`edgellm chat`: piped, and on a real terminal (a pseudo-terminal that the test types into)."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import edgellm


def test_piped_lines_are_turns_of_one_conversation(demo_bundle: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    lines = f"What is a bundle?\nThanks!\n/save {saved}\n/reset\nHello!\n"
    done = edgellm("chat", demo_bundle, "--temperature", "0", stdin=lines)
    assert done.returncode == 0, done.stderr
    messages = json.loads(saved.read_text())
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2
    assert ">>>" not in done.stdout
    first = edgellm("generate", demo_bundle, "--prompt", "What is a bundle?", "--temperature", "0")
    assert messages[1]["content"] == first.stdout.removesuffix("\n")
    assert done.stdout.startswith(first.stdout)


def test_piped_errors_end_with_status_1(demo_bundle: Path) -> None:
    done = edgellm("chat", demo_bundle, stdin="word " * 5000 + "\n")
    assert done.returncode == 1
    assert "context" in done.stderr and "Traceback" not in done.stderr


class Terminal:
    """`edgellm chat` on a pseudo-terminal."""

    def __init__(self, *arguments: object) -> None:
        import pty

        self.main, side = pty.openpty()
        command = [sys.executable, "-m", "edgellm", "chat", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, start_new_session=True, preexec_fn=self._control
        )
        os.close(side)
        self.seen = ""

    @staticmethod
    def _control() -> None:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """Read until `pattern` shows; returns what was read and starts afresh after it."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.main], [], [], max(left, 0))
            if not ready:
                raise AssertionError(f"{pattern!r} did not show; seen: {self.seen!r}")
            self.seen += os.read(self.main, 65536).decode(errors="replace")
        before, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return before

    def close(self) -> int:
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            os.close(self.main)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_conversation_on_a_terminal(demo_bundle: Path, tmp_path: Path) -> None:
    terminal = Terminal(demo_bundle, "--temperature", "0")
    terminal.wait_for(">>> ")
    terminal.type("What is a bundle?\n")
    terminal.wait_for(r"bundle[^>]*>>> ")
    terminal.type("/stats\n")
    assert re.search(r"\d+ tokens, [\d.]+ tokens/s", terminal.wait_for(">>> "))
    terminal.type("/nonsense\n")
    assert "/help" in terminal.wait_for(">>> ")
    terminal.type(f"/save {tmp_path}/missing/talk.json\n")
    assert "cannot write" in terminal.wait_for(">>> ")
    terminal.type("/system You are brief.\n")
    terminal.wait_for(">>> ")
    terminal.type(f"/save {tmp_path}/talk.json\n")
    terminal.wait_for(">>> ")
    assert json.loads((tmp_path / "talk.json").read_text()) == [
        {"role": "system", "content": "You are brief."}
    ]
    terminal.type("\x04")
    assert terminal.close() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_ctrl_c_stops_the_answer_and_not_the_program(demo_bundle: Path) -> None:
    terminal = Terminal(demo_bundle, "--ignore-eos", "--temperature", "1")
    terminal.wait_for(">>> ")
    terminal.type("Hello!\n")
    terminal.wait_for(r"Hello!\r\n.")
    terminal.type("\x03")
    shown = terminal.wait_for(">>> ")
    assert "(stopped)" in shown or "limit of its length" in shown
    time.sleep(0.5)  # CPython misses a signal between printing the prompt and waiting for keys
    terminal.type("\x03")
    terminal.wait_for("to leave")
    terminal.type("/stats\n")
    terminal.wait_for("tokens/s")
    terminal.type("/exit\n")
    assert terminal.close() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_in_piped_mode_ends_with_130(demo_bundle: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgellm", "chat", str(demo_bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"Hello!\n")
    process.stdin.flush()
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
