"""A job run as a process of its own: its output passed on, its end, its memory and the last lines it wrote."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.runtime.memory_errors import tells_of_lacking_memory

_LINES = 60
_KIB = 1024


@dataclass(frozen=True, slots=True)
class JobProcess:
    """
    How a job ended: its exit code (negative: the signal that ended it), how long it took, the most resident bytes of
    one of its processes, and the last lines of its output.
    """

    words: tuple[str, ...]
    exit_code: int
    duration_ns: int
    peak_resident_bytes: int
    last_lines: tuple[str, ...]

    @property
    def out_of_memory(self) -> bool:
        """Whether it failed and its last lines speak of memory that ran out, or the system ended it."""
        told = any(map(tells_of_lacking_memory, self.last_lines))
        return self.exit_code != 0 and (told or self.exit_code == -9)


def run_job_process(words: Sequence[str], *, environment: Mapping[str, str] | None = None) -> JobProcess:
    """
    Run `words` as they are, without a shell, and wait; what it prints goes to standard error as it comes.

    A scheduler that ends a job sends SIGTERM to what it started: it is passed on to the job, whose end is waited for,
    so that there is time to say how it went. Raises `InputError` for a program that can't be started.
    """
    began = time.monotonic_ns()
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own command, which is what was asked for
            list(words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise InputError(f"{words[0]!r:.60} can't be started: {error.strerror}") from error
    lines: deque[str] = deque(maxlen=_LINES)

    def pass_on() -> None:
        for line in process.stdout or ():
            lines.append(line.rstrip("\n"))
            sys.stderr.write(line)
            sys.stderr.flush()

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    try:
        with _terminated_with(process):
            code = process.wait()
    except BaseException:
        process.terminate()
        raise
    reader.join(timeout=10)
    if process.stdout is not None and not reader.is_alive():
        process.stdout.close()
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    scale = 1 if sys.platform == "darwin" else _KIB
    return JobProcess(tuple(words), code, time.monotonic_ns() - began, most * scale, tuple(lines))


@contextmanager
def _terminated_with(process: subprocess.Popen[str]) -> Iterator[None]:
    """SIGTERM of this process is one of `process` meanwhile; threads but the main one can't have it so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
