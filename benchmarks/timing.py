"""How benchmarks time: a clock that waits for the device, processes of their own, the median of turns."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Threads of one library's matrix product hold the cores for a while after it, which would count as the next way's.
PAUSE_SECONDS = 0.3


def now(device: Any) -> float:
    """Seconds on a clock, once the device, a `torch.device`, has finished what it was given."""
    if device.type == "cuda":
        import torch  # not above: scripts that time imports share this file

        torch.cuda.synchronize()
    return time.perf_counter()


def take_turns(
    ways: Mapping[str, Callable[[], Any]],
    device: Any,
    repetitions: int,
    warm_seconds: float = 1.0,
    turn_seconds: float = 0.5,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of a call of each way, one a repetition, and what its last call returned.

    Each is called for `warm_seconds` first, and then in every turn so often that the turn lasts about `turn_seconds`.
    The order of the ways is turned round from one repetition to the next.
    """
    calls, made = {}, {}
    for name, way in ways.items():
        began, count = now(device), 0
        while count == 0 or now(device) - began < warm_seconds:
            made[name], count = way(), count + 1
        calls[name] = max(1, round(turn_seconds * count / (now(device) - began)))
    seconds = {name: [] for name in ways}
    for repetition in range(repetitions):
        for name in list(ways)[:: -1 if repetition % 2 else 1]:
            time.sleep(PAUSE_SECONDS)
            began = now(device)
            for _ in range(calls[name]):
                made[name] = ways[name]()
            seconds[name].append((now(device) - began) / calls[name])
    return seconds, made


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
