"""How a script starts: a user's mistake in one line, and as many processes as were asked for."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_musiclf.errors import UserError
from hf_musiclf.files import FULL_DISK_ERRNOS


def run_script(main: Callable[[], Any]) -> None:
    """Call `main`; a user's mistake is one line on standard error and exit code 2, without a traceback.

    A full disk is told the same way; what the Hub did not take has exit code 1. Under several processes only the first
    one speaks.
    """
    _start_cpu_processes()
    try:
        main()
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in FULL_DISK_ERRNOS:
            raise
        if os.environ.get("RANK", "0") == "0":
            line = one_line(error) if isinstance(error, UserError) else f"the disk is full: {error}"
            print(f"{Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 2))


def without_paths(words: Sequence[str]) -> list[str]:
    """Command line words with absolute paths cut to their last part: where things lie here is nobody else's business.

    Nor is a token.

    >>> without_paths(["--data_dir", "/home/me/maestro", "--output_dir=/data/runs/one", "runs/two"])
    ['--data_dir', 'maestro', '--output_dir=one', 'runs/two']
    >>> without_paths(["--hub_token", "hf_secret", "--hub-token=hf_secret"])
    ['--hub_token', '<TOKEN>', '--hub-token=<TOKEN>']
    """
    shown, before = [], ""
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        secret = (flag if equals else before).endswith("token") and value
        shown.append(f"{flag}{equals}{'<TOKEN>' if secret else without_path(value)}")
        before = flag
    return shown


def available_cores() -> int:
    """Cores that this process may use: fewer than the machine has under taskset or a scheduler."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def without_path(value: Any) -> Any:
    """The last part of an absolute path; anything else as it is.

    >>> without_path("/home/me/maestro"), without_path("runs/two"), without_path(3)
    ('maestro', 'runs/two', 3)
    """
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def one_line(error: Exception) -> str:
    """The message of an error, in one line.

    From a dataloader's worker PyTorch hands on the whole traceback as the message; its last line is the worker's own.

    >>> one_line(ValueError("Caught AudioError.\\nOriginal Traceback ...\\nx.y.AudioError: a.wav: is empty"))
    'a.wav: is empty'
    """
    text = str(error).strip()
    if "Original Traceback" in text:
        text = re.sub(r"^[\w.]+Error: ", "", text.splitlines()[-1])
    return " ".join(text.split())


def _start_cpu_processes() -> None:
    """Make `accelerate launch --cpu --num_processes N` start N processes.

    Accelerate (seen in 1.15) starts one whatever N is: it hands only GPU jobs to torchrun. Where our parent is such a
    command, this process becomes the torchrun that was meant.
    """
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true" or "WORLD_SIZE" in os.environ:
        return
    import psutil

    parent = psutil.Process().parent()
    count = cpu_processes(parent.cmdline(), sys.argv[0]) if parent else 1
    if count > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
        os.execv(sys.executable, [*torchrun, *sys.argv])


def cpu_processes(command: Sequence[str], script: str) -> int:
    """N of an `accelerate launch --cpu --num_processes N script ...` command line, else 1.

    >>> cpu_processes(["python", "accelerate", "launch", "--cpu", "--num_processes", "2", "r.py"], "r.py")
    2
    >>> cpu_processes(["accelerate", "launch", "--cpu", "r.py", "--num_processes", "2"], "r.py")
    1
    """
    end = command.index(script) if script in command else len(command)
    own = [word.replace("-", "_") for word in command[:end]]
    launched = any(Path(word).stem == "launch" for word in own)  # `accelerate launch`, or its module
    for place, word in enumerate(own):
        name, _, value = word.partition("=")
        if name == "__num_processes":
            value = value or (own[place + 1] if place + 1 < len(own) else "")
            return int(value) if value.isdecimal() and launched and "__cpu" in own else 1
    return 1
