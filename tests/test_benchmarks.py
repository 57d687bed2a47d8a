"""What the benchmarks share: their figures hang on it."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch
from recipe_runs import ROOT, recipe


@pytest.fixture
def shared(monkeypatch):
    """A function that imports a file of benchmarks/ as its neighbours do."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: recipe(ROOT / "benchmarks" / f"{name}.py")


def test_a_recording_has_its_length_and_repeats_its_minute(shared, tmp_path):
    shared("signals").write_recording(tmp_path / "long.wav", 61.5, rate=8000, channels=2)
    samples, rate = soundfile.read(tmp_path / "long.wav", dtype="int16")
    assert rate == 8000 and samples.shape == (492_000, 2)
    assert np.array_equal(samples[480_000:], samples[:12_000]) and samples.std() > 1000


def test_recordings_of_other_seeds_differ(shared, tmp_path):
    for seed in (0, 1):
        shared("signals").write_recording(tmp_path / f"{seed}.wav", 0.5, rate=8000, channels=1, seed=seed)
    first, other = (soundfile.read(tmp_path / f"{seed}.wav")[0] for seed in (0, 1))
    assert first.shape == other.shape == (4000,) and not np.array_equal(first, other)


def test_a_ratio_is_the_median_of_the_turns_own(shared):
    """Load that doubles both sides of a turn leaves its ratio as it is."""
    ratio = shared("timing").median_ratio
    assert ratio([3.0, 6.0, 3.0], [1.0, 2.0, 1.0]) == 3.0
    assert ratio([2.0, 12.0, 9.0], [1.0, 4.0, 9.0]) == 2.0  # not 9 / 4, the ratio of the medians


def test_ways_are_warmed_up_take_turns_and_their_last_call_comes_back(shared, monkeypatch):
    timing, called = shared("timing"), []
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)
    ways = {name: lambda name=name: called.append(name) or 2 * name for name in "ab"}
    seconds, made = timing.take_turns(ways, torch.device("cpu"), repetitions=3, warm_seconds=0, turn_seconds=0)
    assert made == {"a": "aa", "b": "bb"} and [len(values) for values in seconds.values()] == [3, 3]
    assert "".join(called) == "ab" + "ab" + "ba" + "ab"  # once to warm up, and nobody is always the first


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_operations_of_a_grouped_convolution_are_three_times_those_of_its_forward_pass(shared, groups):
    """Forward, the gradients of inputs and of weights: each as many. PyTorch counts the last as if of one group."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(16, 16, 1, groups=16)  # so that the other's inputs have a gradient
            self.second = torch.nn.Conv2d(16, 32, 3, padding=1, groups=groups)

        def forward(self, inputs):
            outputs = self.second(self.first(inputs))
            return type("Outputs", (), {"loss": outputs.sum()})

    of_first = 2 * 2 * 5 * 7 * 16  # batch, places, weights, a product and its sum each
    of_second = 2 * 2 * 5 * 7 * 32 * (16 // groups) * 9
    counted = shared("matrix_peaks").step_flops(Model(), {"inputs": torch.ones(2, 16, 5, 7)})
    assert counted == 2 * of_first + 3 * of_second  # nobody asks for the gradient of the batch


def test_a_benchmark_runs_on_the_threads_it_is_told(shared):
    before, machine = torch.get_num_threads(), shared("machine")
    try:
        args = machine.make_parser("What is fast.", threads=True).parse_args(["--threads", str(before + 1)])
        machine.begin(args, "numpy")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_process_that_measures_is_told_from_the_one_that_asks(shared, capsys):
    answer = shared("timing").answer
    assert not answer(pytest.fail, ["--windows", "3"])
    assert answer(lambda low, high: high - low, ["--measure", "[1, 4]"]) and json.loads(capsys.readouterr().out) == 3


def test_a_process_answers_in_its_last_line_and_a_failure_is_told(shared, tmp_path):
    script = tmp_path / "twice.py"
    script.write_text("import json, sys\nprint('warm')\nprint(json.dumps([2 * n for n in json.loads(sys.argv[2])]))\n")
    in_process = shared("timing").in_process
    assert in_process(str(script), 1, 2.5) == [2, 5.0]
    with pytest.raises(SystemExit, match="TypeError"):
        in_process(str(script), None)


def test_import_times_are_of_modules_own_time_by_package(shared):
    told = "\n".join(
        [
            "import time: self [us] | cumulative | imported package",
            "import time:    250000 |     250000 |     torch._C",
            "a warning | between | the lines",
            "import time:    500000 |     750000 |   torch",
            "import time:    100000 |     850000 | transformers",
        ]
    )
    assert shared("start_up").by_package(told) == {"torch": 0.75, "transformers": 0.1}


def test_what_is_preloaded_is_told_with_the_machine(shared, monkeypatch):
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert "preloaded" not in shared("machine").describe_machine()
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libtcmalloc_minimal.so.4:libother.so")
    assert shared("machine").describe_machine()["preloaded"] == "libtcmalloc_minimal.so.4 libother.so"


def test_figures_are_written_with_their_machine(shared, tmp_path):
    machine = shared("machine")
    args = machine.make_parser("What is fast.").parse_args(["--output", str(tmp_path / "new" / "figures.json")])
    args.threads, args.data_dir = torch.get_num_threads(), "/home/me/gtzan"
    machine.write_figures(args, machine.begin(args, "numpy"), [{"ratio": 2}])
    written = json.loads((tmp_path / "new" / "figures.json").read_text(encoding="utf-8"))
    assert written["rows"] == [{"ratio": 2}] and written["settings"] == {"threads": args.threads, "data_dir": "gtzan"}
    assert written["machine"]["numpy"] == np.__version__ and written["machine"]["python"] == sys.version.split()[0]
