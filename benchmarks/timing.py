"""How benchmarks time: a clock that waits for the device, processes of their own, the median of turns."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def now(device: Any) -> float:
    """Seconds on a clock, once the device, a `torch.device`, has finished what it was given."""
    if device.type == "cuda":
        import torch  # not above: scripts that time imports share this file

        torch.cuda.synchronize()
    return time.perf_counter()


def timed(make: Callable[[], Any], device: Any) -> tuple[float, Any]:
    """Seconds that `make` takes, until the device has finished, and what it returns, a tensor on the CPU."""
    began = now(device)
    values = make()
    return now(device) - began, values.cpu()


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median of the turns' own ratios: load that lasts longer than a turn hits both sides of each."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def devices() -> list[Any]:
    """The CPU and, where there is one, a GPU: each a `torch.device`."""
    import torch

    return [torch.device(name) for name in ("cpu", "cuda") if name == "cpu" or torch.cuda.is_available()]


def in_process(script: str, *request: Any) -> Any:
    """What `script --measure REQUEST`, a fresh process, prints in its last line; both are JSON. Exits if it fails."""
    command = [sys.executable, script, "--measure", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script} --measure {json.dumps(request)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(measure: Callable[..., Any], argv: Sequence[str] | None) -> bool:
    """Whether this is a process of `in_process`; if so, print what it waits for: `measure(*request)`."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] != ["--measure"]:
        return False
    print(f"\n{json.dumps(measure(*json.loads(words[1])))}", flush=True)
    return True
