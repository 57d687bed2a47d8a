"""Files that are whole or not there: written beside their place, then renamed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Have `write` make a file or folder beside `path`, then put it in place: `path` is whole or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: dict[str, Any]) -> Path:
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n"
    return write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
