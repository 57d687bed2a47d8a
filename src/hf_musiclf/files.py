"""Files that are whole or not there: written beside their place, then renamed; and how a full disk is told."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_musiclf.errors import UserError

# The disk, or what the user may put on it, is full.
FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Have `write` make a file or folder beside `path`, then put it in place: `path` is whole or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """Write JSON that every parser reads: what is not a finite number becomes null."""
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    return write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote, None where there is no such file. Raises UserError where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; make it again with the command that made it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object; make it again with the command that made it")
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file, read a megabyte at a time. algorithm: a name of hashlib; no secret hangs on it."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of any library says that the disk is full.

    torch.save says "unexpected pos" or "PytorchStreamWriter failed" where a file stopped growing.
    """
    seen, told = error, ("No space left on device", "PytorchStreamWriter failed", "unexpected pos")
    while seen is not None:
        if getattr(seen, "errno", None) in FULL_DISK_ERRNOS or any(words in str(seen) for words in told):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
