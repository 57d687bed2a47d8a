"""A frozen backbone is run once: embeddings of all windows, kept on disk, for a head that is trained on them alone.

The head is trained through the model's own forward pass, with a stand-in for the backbone that hands on what is kept:
what is computed is what the plain way computes, without its repetitions.
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hf_musiclf.data.tracks import FILE_HASH
from hf_musiclf.data.window_dataset import EvaluationWindows, collate_windows
from hf_musiclf.files import write_whole
from hf_musiclf.zip_members import is_member_path, split_member_path

# Of the files, and of what they hold: a change of features/ or of what `embed` takes raises it.
FORMAT = 2
# Fields of a config that change no embedding.
OF_THE_HEAD = {
    "label2id",
    "id2label",
    "problem_type",
    "architectures",
    "hop_seconds",
    "custom_pipelines",
    "auto_map",
    "_name_or_path",
    "dtype",
}


class _StandIn(nn.Module):
    """In the backbone's place: what comes in is its embedding already, `(batch, dim)`."""

    def forward(self, *args, **kwargs) -> BaseModelOutputWithPooling:
        embeddings = next(iter([*args, *kwargs.values()]))  # the main input comes first, by place or by name
        return BaseModelOutputWithPooling(last_hidden_state=embeddings[:, None], pooler_output=embeddings)


def without_backbone(model: PreTrainedModel) -> PreTrainedModel:
    """The model with a stand-in for its backbone: its inputs are embeddings, its head is the model's very own.

    model: of a class whose forward pass takes `pooler_output` of its base model and nothing else, or the mean of its
    `last_hidden_state` over time.
    """
    light = copy.copy(model)
    light._modules = {**model._modules, model.base_model_prefix: _StandIn()}
    return light


class EmbeddedWindows(torch.utils.data.Dataset):
    """Windows by their embeddings. items are `{input name: (dim,) float32, "labels": int}`.

    weak_logits: `(windows, labels)` of a weak model, to be an entry of the items too.
    """

    def __init__(
        self,
        input_name: str,
        embeddings: np.ndarray,
        windows: EvaluationWindows,
        weak_logits: np.ndarray | None = None,
    ):
        self.labels = windows.label_of_window
        self.columns = {input_name: torch.from_numpy(embeddings)}
        if weak_logits is not None:
            assert len(weak_logits) == len(self.labels), f"{len(weak_logits)} weak logits, {len(self.labels)} windows"
            self.columns["weak_logits"] = torch.from_numpy(weak_logits).float()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in self.columns.items()} | {"labels": int(self.labels[index])}


def collate_embeddings(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """`{input name: (batch, dim), "labels": (batch,)}`, and weak_logits `(batch, labels)` where items have them."""
    stacked = {name: torch.stack([item[name] for item in items]) for name in items[0] if name != "labels"}
    return {**stacked, "labels": torch.tensor([item["labels"] for item in items])}


def hash_weights(digest: "hashlib._Hash", module: nn.Module) -> None:
    """Take every weight and buffer of a module, of any precision, into a digest: its name, shape and bytes."""
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())


class EmbeddingCache:
    """Embeddings on disk, a file a track: whole or not there, so that a run that was stopped goes on.

    model, extractor: what they follow from; a change of a weight or a setting leads to another folder. folder: where
    all of them lie (None: in the cache of `datasets`). precision: of the forward pass, "no" or "bf16".
    """

    def __init__(self, model: PreTrainedModel, extractor, folder: str | None = None, precision: str = "no"):
        digest = hashlib.sha256(f"{FORMAT} {type(model).__name__} {precision} {transformers.__version__}".encode())
        config = model.base_model.config.to_dict()
        settings = {key: value for key, value in config.items() if key not in OF_THE_HEAD}
        for facts in (settings, extractor.to_dict()):
            digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        hash_weights(digest, model.base_model)
        root = Path(folder or datasets.config.HF_DATASETS_CACHE) / "hf_musiclf_embeddings"
        self.folder = root / digest.hexdigest()[:16]

    def path(self, windows: EvaluationWindows, track: int) -> Path:
        """The file of a track: named by its samples, and by where windows of which length and rate start.

        Of audio that was not decoded the hash does not see every sample (see FILE_HASH): the state of the file stands
        beside it. Raises OSError where that file has gone.
        """
        starts = windows.start_of_window[windows.track_of_window == track]
        content = [windows.hash_of_track[track]]
        if content[0].startswith(FILE_HASH):
            content += _state_on_disk(windows.audio[int(windows.rows[track])]["audio"]["path"])
        about = [*content, windows.window, windows.sampling_rate, *starts.tolist()]
        return self.folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.npy"

    def fill(
        self,
        all_windows: Sequence[EvaluationWindows],
        embed: Callable[[dict[str, torch.Tensor]], torch.Tensor],
        batch_size: int,
        workers: int = 0,
        share: tuple[int, int] = (0, 1),
        verbose: bool = True,
    ) -> int:
        """Compute and write what is not there yet; returns how many windows that were.

        embed: a batch of `collate_windows` -> `(batch, dim)`. share: number of this process and of all of them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        every = {self.path(windows, track): (windows, track) for windows in all_windows for track in windows.tracks()}
        mine = list(every.items())[share[0] :: share[1]]
        missing = {path: entry for path, entry in mine if not path.exists()}
        positions = [np.flatnonzero(windows.track_of_window == track) for windows, track in missing.values()]
        items = [
            (windows, int(position))
            for (windows, _), found in zip(missing.values(), positions, strict=True)
            for position in found
        ]
        loader = torch.utils.data.DataLoader(
            _Items(items), batch_size=batch_size, num_workers=workers if items else 0, collate_fn=collate_windows
        )
        held: list[np.ndarray] = []
        waiting = [(path, len(found)) for path, found in zip(missing, positions, strict=True)][::-1]
        with tqdm(total=len(items), desc="Embedding windows", unit="window", disable=not (verbose and items)) as bar:
            for batch in loader:
                held += list(embed(batch).float().cpu().numpy())
                bar.update(len(batch["labels"]))
                while waiting and len(held) >= waiting[-1][1]:  # all windows of the next track are there
                    path, size = waiting.pop()
                    _write(path, np.stack(held[:size]))
                    held = held[size:]
        return len(items)

    def read(self, windows: EvaluationWindows) -> np.ndarray:
        """`(windows, dim)` float32, in their order."""
        return np.concatenate([np.load(self.path(windows, track)) for track in windows.tracks()])


def _state_on_disk(path: str) -> list[int]:
    """Bytes and times (ns) of a file, or of the archive that a member stands in.

    The hash of a file has its ends alone, that of a member the CRC that the archive's directory promises: neither sees
    the middle damaged or mended. The time of modification does not suffice: unzip and rsync set it back to the
    original's. That of the last change of the entry (on Windows, of its creation) cannot be set; a chmod moves it too,
    which costs a pass of the backbone and no more.
    """
    status = os.stat(split_member_path(path)[1] if is_member_path(path) else path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


class _Items(torch.utils.data.Dataset):
    def __init__(self, items: list[tuple[EvaluationWindows, int]]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        windows, position = self.items[index]
        return windows[position]


def _write(path: Path, values: np.ndarray) -> None:
    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.save(file, values)

    write_whole(path, write)
