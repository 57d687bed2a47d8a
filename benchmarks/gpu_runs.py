"""One variant of a model on a device: its training steps from memory or from workers, and its embeddings."""

import copy
import gc
import math
import statistics
from typing import NamedTuple

import torch
from gpu_models import LABELS
from matrix_peaks import step_flops
from reading import make_loader
from signals import make_windows
from timing import now

PRECISIONS = ("float32", "tf32", "bf16")
COUNTED = 2  # windows whose operations are counted: batch norms do not learn from one


class Variant(NamedTuple):
    """batch: windows a step. precision: of PRECISIONS. attention: as Transformers names it, "none" for a network."""

    batch: int
    precision: str
    attention: str
    compiled: bool


def attempt(measure, device):
    """What `measure()` returns, or `{"skipped": reason}` where the machine cannot do it; frees the device's memory."""
    try:
        result = measure()
    except torch.OutOfMemoryError:
        result = {"skipped": "out of memory"}
    except (RuntimeError, ValueError, ImportError, NotImplementedError) as error:
        lines = str(error).strip().splitlines() or [""]
        result = {"skipped": f"{type(error).__name__}: {lines[0][:100]}"}
    gc.collect()
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return result


def set_precision(precision, device):
    """Switch TF32 on or off. Raises ValueError where the device has no such numbers."""
    capability = torch.cuda.get_device_capability() if device.type == "cuda" else (0, 0)
    if precision == "tf32" and capability < (8, 0):
        raise ValueError("no TF32 here, which NVIDIA's cards have since Ampere")
    if precision == "bf16" and device.type == "cuda" and capability < (8, 0):
        raise ValueError("no bfloat16 in this card's hardware")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision != "float32"  # with bf16 as PyTorch has it by default


class Runner:
    """A copy of the model on the device, and the steps of a variant. loaded: stays as it is."""

    def __init__(self, loaded, variant, device):
        set_precision(variant.precision, device)
        self.loaded, self.device = loaded, device
        self.model = copy.deepcopy(loaded.model)
        if variant.attention != "none":
            self.model.set_attn_implementation(variant.attention)
        self.model.to(device).train()
        self.called = torch.compile(self.model) if variant.compiled else self.model
        self.half = variant.precision == "bf16"
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-6, fused=device.type == "cuda")

    def inputs(self, batch):
        waveforms = batch["waveforms"].to(self.device, non_blocking=True)
        return self.loaded.features(waveforms, batch.get("lengths"))

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def step(self, batch):
        """One training step, as Trainer takes it with autocast and float32 weights."""
        inputs = self.inputs(batch) | {"labels": batch["labels"].to(self.device, non_blocking=True)}
        with self.autocast():
            loss = self.called(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def embed(self, batch):
        """One batch of embeddings, handed back to the CPU as the cache takes them."""
        with self.autocast():
            return self.loaded.embed(self.model, self.inputs(batch)).float().cpu()


def batch_in_memory(count, samples, rate, device):
    """Waveforms and labels as the workers hand them over; in pinned memory for a GPU."""
    batch = {
        "waveforms": torch.from_numpy(make_windows(count, samples, rate)),
        "lengths": torch.full((count,), samples),
        "labels": torch.arange(count) % len(LABELS),
    }
    return {name: tensor.pin_memory() if device.type == "cuda" else tensor for name, tensor in batch.items()}


def count_work(loaded, seconds, device):
    """Arithmetic of a training step for one window, of the plain model: the same for every variant."""
    samples = round(seconds * loaded.features.sampling_rate)
    attention = getattr(loaded.model.config, "_attn_implementation", None)
    runner = Runner(loaded, Variant(COUNTED, "float32", "eager" if attention else "none", False), device)
    batch = batch_in_memory(COUNTED, samples, loaded.features.sampling_rate, device)
    inputs = runner.inputs(batch) | {"labels": batch["labels"].to(device)}
    return {"gigaflops_a_window": step_flops(runner.model, inputs) / COUNTED / 1e9}


def step_speed(loaded, variant, seconds, args, device):
    """Windows a second of training steps over one batch in memory, and the largest memory that was allocated."""
    samples = round(seconds * loaded.features.sampling_rate)
    batch = batch_in_memory(variant.batch, samples, loaded.features.sampling_rate, device)
    runner = Runner(loaded, variant, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    speed = _speed(runner.step, (batch for _ in iter(int, 1)), variant.batch, args, device)
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    return {"windows_per_second": speed, "memory_gb": memory}


def fed_speed(loaded, variant, windows, workers, args, device):
    """Windows a second of training steps over what workers read."""
    loader = make_loader(windows, variant.batch, workers, pin_memory=device.type == "cuda")
    step = Runner(loaded, variant, device).step
    return {"windows_per_second": _fed(step, iter(loader), variant.batch, workers, args, device)}


def embed_speed(loaded, variant, windows, workers, args, device):
    """Windows a second of embeddings of what workers read."""
    if not loaded.embeds:
        raise ValueError("its head takes more than one vector a window")
    runner = Runner(loaded, variant, device)
    runner.model.eval()
    loader = make_loader(windows, variant.batch, workers, pin_memory=device.type == "cuda")
    return {"windows_per_second": _fed(runner.embed, iter(loader), variant.batch, workers, args, device)}


def fed_batches(workers, args):
    """Batches that are not counted, which come from full queues and warm up; and batches that are.

    Of these so many that it does not matter where they begin: workers that started together hand in one each at a time.
    """
    return args.first + 2 * workers, workers * math.ceil(args.fed_batches / workers)


def _fed(step, batches, size, workers, args, device):
    """Windows a second over one long stretch."""
    first, counted = fed_batches(workers, args)
    for _ in range(first):
        step(next(batches))
    began = now(device)
    for _ in range(counted):
        step(next(batches))
    return size * counted / (now(device) - began)


def _speed(step, batches, size, args, device):
    """Median windows a second of the repetitions, after the first batches, which warm up."""
    for _ in range(args.first):
        step(next(batches))
    speeds = []
    for _ in range(args.repetitions):
        began = now(device)
        for _ in range(args.steps):
            step(next(batches))
        speeds.append(size * args.steps / (now(device) - began))
    return statistics.median(speeds)
