"""Which tracks, how they are split, and how windows are cut from them."""

from dataclasses import dataclass, field

from hf_musiclf.errors import UserError

# A frame of the spectrograms; windows closer than that are the same.
SHORTEST_HOP_SECONDS = 0.01


@dataclass
class DataArguments:
    """Which tracks, how they are split, and how windows are cut from them."""

    dataset: str = field(
        default="gtzan",
        metadata={"help": "Source of tracks: gtzan, maestro, folder (your own audio, in --data_dir) or synthetic."},
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Instead of --dataset: a script-free dataset on the Hub, or a folder that load_dataset reads."
        },
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder or archive with the source's audio. Default: download, where one can."}
    )
    download: bool = field(
        default=False,
        metadata={"help": "maestro without --data_dir: fetch the official archive, 101 GB, and read it in place."},
    )
    check_audio: bool = field(
        default=False,
        metadata={"help": "maestro: decode every file once to find damaged ones, instead of reading headers alone."},
    )
    composers: list[str] | None = field(
        default=None,
        metadata={"help": "maestro: these composers alone, by full name or surname. Default: all with enough pieces."},
    )
    min_pieces_per_composer: int = field(
        default=3, metadata={"help": "maestro: leave out composers with fewer compositions; 3 are one for each split."}
    )
    max_performances_per_piece: int = field(
        default=3, metadata={"help": "maestro: keep at most this many performances of one title; 0 keeps all."}
    )
    double_credits: str = field(
        default="leave_out",
        metadata={"help": "maestro: what becomes of 'Franz Schubert / Franz Liszt': leave_out, or first or second."},
    )
    min_track_seconds: float = field(
        default=10.0, metadata={"help": "maestro: leave out performances shorter than this, in seconds."}
    )
    audio_column: str = field(default="audio", metadata={"help": "Audio column of --dataset_name."})
    label_column: str | None = field(
        default=None,
        metadata={
            "help": "Label column of --dataset_name, or of a folder's metadata.csv. Default: label, genre or labels."
        },
    )
    group_column: str | None = field(
        default=None,
        metadata={
            "help": "Column, of the same, whose values no two splits may share. Default: group or artist, if present."
        },
    )
    split_scheme: str | None = field(
        default=None,
        metadata={
            "help": "How the split is drawn: artist, random or fault_filtered for GTZAN; composition, title, "
            "performance or official for MAESTRO; group, artist, given or random for a folder and --dataset_name. "
            "Default: the first of these that the data allow."
        },
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the split alone: same seed, same split."})
    folds: int = field(
        default=0, metadata={"help": "Cross-validation: number of folds; 0: one split. See scripts/cross_validate.py."}
    )
    fold: int = field(default=0, metadata={"help": "Which of the folds is tested, from 0."})
    cache_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder for prepared tables of tracks, kept embeddings and weak models. Default: that of datasets."
        },
    )
    window_seconds: float = field(default=10.24, metadata={"help": "Length of one model input, in seconds."})
    eval_hop_seconds: float | None = field(
        default=None,
        metadata={"help": "Distance between the starts of evaluation windows, in seconds. Default: the window."},
    )
    train_windows: str = field(
        default="random",
        metadata={"help": "random: random windows of each track, new ones each epoch. all: every window at the hop."},
    )
    windows_per_track: int = field(
        default=1, metadata={"help": "Random training windows of each track an epoch; 4 or so where tracks are long."}
    )
    balance: str = field(
        default="none",
        metadata={
            "help": "Labels of unequal numbers, in training alone. oversample: repeat the tracks of rare ones; "
            "weighted_loss: weigh their loss."
        },
    )
    balance_power: float = field(
        default=1.0,
        metadata={"help": "How far --balance goes, in (0, 1]: 1 makes all labels even, 0.5 takes square roots."},
    )

    def __post_init__(self):
        if self.balance not in ("none", "oversample", "weighted_loss"):
            raise UserError(f"balance={self.balance!r} is not known; choose none, oversample or weighted_loss")
        if not 0 < self.balance_power <= 1:
            raise UserError(
                f"balance_power={self.balance_power} must lie in (0, 1]; for no balance leave --balance at none"
            )
        if not 0 < self.window_seconds < float("inf"):
            raise UserError(f"window_seconds={self.window_seconds} must be greater than 0 s")
        if self.eval_hop_seconds is not None and not self.eval_hop_seconds >= SHORTEST_HOP_SECONDS:
            raise UserError(f"eval_hop_seconds={self.eval_hop_seconds} must be {SHORTEST_HOP_SECONDS} s or more")
        if self.eval_hop_seconds is not None and not 0 < self.eval_hop_seconds <= self.window_seconds:
            raise UserError(
                f"eval_hop_seconds={self.eval_hop_seconds} must lie in (0, {self.window_seconds}], the window: a "
                "longer hop would leave music between windows unheard"
            )
        if self.train_windows not in ("random", "all"):
            raise UserError(f"train_windows={self.train_windows!r} is not known; choose random or all")
        if self.double_credits not in ("leave_out", "first", "second"):
            raise UserError(f"double_credits={self.double_credits!r} is not known; choose leave_out, first or second")
        if not 0 <= self.min_track_seconds < float("inf"):
            raise UserError(f"min_track_seconds={self.min_track_seconds} must be 0 s or more")
        least = {"split_seed": 0, "max_performances_per_piece": 0, "min_pieces_per_composer": 1, "windows_per_track": 1}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise UserError(f"{name}={getattr(self, name)} must be {limit} or more")
        if not (self.folds == 0 or self.folds >= 2):
            raise UserError(f"folds={self.folds} must be 0, for one split, or 2 or more")
        if not 0 <= self.fold < max(1, self.folds):
            raise UserError(f"fold={self.fold} must lie in 0..{max(0, self.folds - 1)}, for folds={self.folds}")
