"""What every benchmark says of where its figures come from, and how it writes them down."""

import json
import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe_machine(*packages: str) -> dict[str, Any]:
    """Platform, processor, cores, load and the versions of Python and of `packages` (names as in pip).

    The load is the mean number of busy threads over the last minute: above 1 before the start, other programs share
    the figures.
    """
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    machine = {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count(), "load": load}
    return machine | {"python": platform.python_version()} | {package: version(package) for package in packages}


def _processor() -> str:
    """The processor's name; Linux tells it in a file only."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def as_line(machine: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def write_figures(path: Path, machine: dict[str, Any], settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"machine": machine, "settings": settings, "rows": rows}, indent=2) + "\n")


def peak_bytes():
    """The largest resident set this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss would include what the parent held when it started us
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
