import subprocess
import sys
from pathlib import Path

import pytest

from hf_musiclf.errors import UserError
from hf_musiclf.launching import cpu_processes, run_script


def test_a_users_mistake_is_exit_code_two_and_one_line(capsys):
    def main():
        raise UserError("wrong,\n  really wrong")

    with pytest.raises(SystemExit, match="2"):
        run_script(main)
    assert capsys.readouterr().err.strip().endswith("error: wrong, really wrong")


def test_a_full_disk_is_one_line_and_a_defect_keeps_its_traceback(capsys):
    def full():
        raise OSError(28, "No space left on device", "model.safetensors")

    def defect():
        raise ValueError("from a library")

    with pytest.raises(SystemExit, match="2"):
        run_script(full)
    assert "the disk is full" in capsys.readouterr().err
    with pytest.raises(ValueError, match="from a library"):
        run_script(defect)


@pytest.mark.parametrize(
    "command, count",
    [
        ("python bin/accelerate launch --cpu --num_processes 2 x.py --seed 1", 2),
        ("python bin/accelerate launch --cpu --num-processes=4 x.py", 4),
        ("python bin/accelerate launch --cpu x.py", 1),
        ("python bin/accelerate launch --num_processes 2 x.py", 1),
        ("python bin/accelerate launch --cpu x.py --num_processes 2", 1),
        ("bash -c something --cpu --num_processes 2", 1),
    ],
)
def test_processes_asked_of_accelerate_on_a_cpu(command, count):
    assert cpu_processes(command.split(), "x.py") == count


def test_recipes_start_without_what_only_their_end_needs():
    recipes = [str(path) for path in (Path(__file__).parents[1] / "recipes").glob("*.py")]
    late = ["sklearn", "scipy.stats", "matplotlib", "evaluate", "audiomentations", "gradio"]
    code = f"import runpy, sys; [runpy.run_path(path) for path in {recipes}]"
    code += f"; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]" and len(recipes) == 8, done.stderr
