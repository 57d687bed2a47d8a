"""What every benchmark says of where its figures come from, and how it writes them down."""

import argparse
import json
import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any


def make_parser(documentation: str, threads: bool = False) -> argparse.ArgumentParser:
    """A parser with what every benchmark asks for: --output and, where PyTorch computes in this process, --threads."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    if threads:
        import torch  # not above: scripts that time imports share this file

        parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch and numpy")
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to")
    return parser


def begin(args: argparse.Namespace, *packages: str) -> dict[str, Any]:
    """Set --threads, of PyTorch and numpy; print the machine in a line, and return `describe_machine(*packages)`."""
    if "threads" in args:
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(args.threads)
        threadpool_limits(args.threads)  # numpy's matrix products have threads of their own
    machine = describe_machine(*packages)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    return machine


def write_figures(args: argparse.Namespace, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write machine, flags and figures to --output, if it is given; of places on this machine the last part."""
    if args.output:
        from hf_musiclf.launching import without_path

        settings = {
            name: [without_path(each) for each in value] if isinstance(value, list) else without_path(value)
            for name, value in vars(args).items()
            if name != "output"
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({"machine": machine, "settings": settings, "rows": rows}, indent=2) + "\n")


def describe_machine(*packages: str) -> dict[str, Any]:
    """Platform, processor, cores, load and the versions of Python and of `packages` (names as in pip).

    The load is the mean number of busy threads over the last minute: above 1 before the start, other programs share
    the figures. Libraries that LD_PRELOAD puts before the system's are named.
    """
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    machine = {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count(), "load": load}
    machine |= {"python": platform.python_version()} | {package: version(package) for package in packages}
    if preloaded := os.environ.get("LD_PRELOAD"):  # another allocator, say
        machine["preloaded"] = " ".join(os.path.basename(library) for library in preloaded.replace(":", " ").split())
    if "soundfile" in packages:
        import soundfile

        machine["libsndfile"] = soundfile.__libsndfile_version__
    if "torch" in packages:
        import torch

        if torch.cuda.is_available():
            machine["gpu"] = torch.cuda.get_device_name()
    return machine


def _processor() -> str:
    """The processor's name; Linux tells it in a file only."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def peak_bytes():
    """The largest resident set this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss would include what the parent held when it started us
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
