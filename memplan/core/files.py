"""Writing files and folders so that a crash leaves either the old or the new one, never half of one."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from memplan.core.errors import InputError, reason


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError("can't be written: {}", reason(error), path=path)


def check_writable(path: Path) -> None:
    """Raise the `InputError` that writing the file `path` would end with, before the work whose outcome goes there."""
    folder, number = path.parent, 0
    if path.is_dir():
        number = errno.EISDIR
    elif not folder.is_dir():
        number = errno.ENOTDIR if folder.exists() else errno.ENOENT
    elif not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES
    if number:
        raise _unwritable(path, OSError(number, os.strerror(number)))


@contextmanager
def replacing_file(path: str | Path) -> Iterator[IO[str]]:
    """
    A text file that takes the place of `path` when the block ends well, and vanishes when it doesn't.

    Lone surrogates, which names of files and strings of JSON can hold and UTF-8 can't, are written as JSON's escapes.
    """
    with replacing_binary_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        yield text
        text.flush()
        text.detach()


@contextmanager
def replacing_binary_file(path: str | Path) -> Iterator[IO[bytes]]:
    """The same for bytes."""
    target = Path(path)
    try:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, before it is renamed
            dir=target.parent, prefix=f".{target.name}.", delete=False
        )
    except OSError as error:
        raise _unwritable(target, error) from error
    temporary = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _usual_mode(temporary, 0o666)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(target, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """
    An empty folder that becomes `path` when the block ends well, and vanishes when it doesn't.

    A folder with something in it is only replaced if `replace` is set; raises `InputError` otherwise.
    """
    target = Path(path)
    taken = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() or target.is_symlink():
            if not target.is_dir():
                raise InputError("this is a file", path=target, remedy="name a folder")
            taken = any(target.iterdir())
            if taken and not replace:
                raise InputError("this folder is not empty", path=target, remedy="name a new folder")
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield temporary
        _usual_mode(temporary, 0o777)
        if taken:
            aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            target.replace(aside / "old")
            temporary.replace(target)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            temporary.replace(target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _unwritable(target, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _usual_mode(path: Path, mode: int) -> None:
    """Give a temporary file the rights that any new file would have had."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(mode & ~mask)
