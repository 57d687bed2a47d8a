"""EfficientAT, MobileNetV3 taught by transformers on AudioSet (Schmid, Koutini and Widmer, ICASSP 2023)."""

from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from hf_musiclf.data.download import download_file
from hf_musiclf.errors import UserError
from hf_musiclf.features.efficientat import EfficientAtFeatures
from hf_musiclf.files import file_digest
from hf_musiclf.models.efficientat import EfficientAtConfig, EfficientAtForAudioClassification
from hf_musiclf.models.efficientat_checkpoints import load_original
from hf_musiclf.models.efficientat_folders import save_folder
from hf_musiclf.models.families.extractor_windows import change_window, set_window
from hf_musiclf.models.families.overrides import checked_overrides, make_config, own_fields
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor

MODEL_TYPE = EfficientAtConfig.model_type
HEAD_FIELDS = ("head_type", "dropout")

# Of the folders that `.pt` files are turned into: a change of what they hold (names of weights, config, extractor)
# raises it, as a folder in the cache is taken as it is.
FORMAT = 1

RELEASE_URL = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
# Assets of that release with this front end and classifier: name -> width, mAP on AudioSet in thousandths (part of the
# file's name), SHA-256 where it is known. The project publishes no digests; that of mn04_as is of a file that gives the
# outputs of the original implementation. Of the others the entries, shapes and width are checked.
RELEASES = {
    "mn01_as": (0.1, 298, None),
    "mn02_as": (0.2, 378, None),
    "mn04_as": (0.4, 432, "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),
    "mn05_as": (0.5, 443, None),
    "mn10_as": (1.0, 471, None),
    "mn20_as": (2.0, 478, None),
    "mn30_as": (3.0, 482, None),
    "mn40_as": (4.0, 484, None),
    "mn40_as_ext": (4.0, 487, None),
}
PARAMETERS_AT_FULL_WIDTH, BYTES_A_PARAMETER = 4.9e6, 4  # they grow with the square of the width, roughly

AutoConfig.register(MODEL_TYPE, EfficientAtConfig, exist_ok=True)
AutoModelForAudioClassification.register(EfficientAtConfig, EfficientAtForAudioClassification, exist_ok=True)
AutoFeatureExtractor.register(EfficientAtConfig, EfficientAtFeatureExtractor, exist_ok=True)


def resolve(name: str, revision: str = "main") -> str:
    """What `from_pretrained` takes, of what a user names.

    name: an original `.pt` file or one of RELEASES, which are turned into a Transformers folder in Hugging Face's
    cache, once; a folder or a Hub id is returned as it is. revision: of a Hub id, left to whoever loads it. Raises
    UserError for a file that is no EfficientAT, and where a release cannot be had.
    """
    path = Path(name)
    if path.is_file() or path.suffix == ".pt":
        return str(_converted(path))
    if path.exists() or name not in RELEASES:
        return name
    return str(_converted(_download(name), RELEASES[name][0]))


def _cache() -> Path:
    return Path(constants.HF_HUB_CACHE).parent / "efficientat"


def origin(name: str) -> str | None:
    """Which of RELEASES a model is, for reports and cards; None where it is none, or nothing tells.

    name: as `resolve` takes it. A file is a release by its digest. By its name alone, which the text then says, only
    where the release's digest is not known: another file under the name of one that is known is no release.

    >>> origin("mn10_as"), origin("someone/efficientat")
    ("EfficientAT's mn10_as", None)
    """
    path = Path(name)
    if path.is_file():
        digest = file_digest(path, "sha256")
        for release, (_, _, sha256) in RELEASES.items():
            if sha256 == digest:
                return f"EfficientAT's {release}"
            if sha256 is None and path.name == _file_name(release):
                return f"EfficientAT's {release} (by its file's name)"
    return f"EfficientAT's {name}" if name in RELEASES and not path.exists() else None


def _file_name(release: str) -> str:
    return f"{release}_mAP_{RELEASES[release][1]}.pt"


def _download(release: str) -> Path:
    width, _, sha256 = RELEASES[release]
    file = _file_name(release)
    size = f"about {max(1, round(PARAMETERS_AT_FULL_WIDTH * BYTES_A_PARAMETER * width**2 / 1e6))} MB"
    return download_file(RELEASE_URL + file, _cache() / file, sha256, size, f"EfficientAT {release}")


def _converted(path: Path, width: float | None = None) -> Path:
    """The Transformers folder of a `.pt` file, in the cache under the file's digest and FORMAT.

    width: what a download must have; one that is no such file is deleted.
    """
    if not path.is_file():
        load_original(path)  # which says what is wrong
    folder = _cache() / f"{path.stem}-{file_digest(path, 'sha256')[:16]}-v{FORMAT}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if folder.is_dir():
            return folder
        try:
            config, state_dict = load_original(path)
            if width is not None and config.width_mult != width:
                raise UserError(f"{path} has width {config.width_mult}, not {width}; try again")
        except UserError:
            if width is not None:
                path.unlink()
            raise
        return save_folder(config, state_dict, folder)


def head_overrides(overrides: dict) -> dict:
    """HEAD_FIELDS of a new head, checked. Raises UserError for other keys and for values that make no head."""
    for key in overrides:
        if key in own_fields(EfficientAtConfig) and key not in HEAD_FIELDS:
            raise UserError(f"model_config: {key} is a field of the network, which the checkpoint brings; leave it out")
    fields = checked_overrides(overrides, EfficientAtConfig(), examples=", ".join(HEAD_FIELDS))
    make_config(EfficientAtConfig, **fields)
    return fields


def random_parts(overrides: dict, window_seconds: float) -> tuple[EfficientAtConfig, EfficientAtFeatureExtractor]:
    """Config and extractor for training from scratch.

    overrides: fields of EfficientAtConfig. Raises UserError for fields that it does not have or that make no network,
    and for a window shorter than a spectrum.
    """
    fields = checked_overrides(overrides, EfficientAtConfig(), examples="width_mult, dropout")
    config = make_config(EfficientAtConfig, **fields)
    extractor = EfficientAtFeatureExtractor(feature_size=config.num_mel_bins)
    set_window(extractor, window_seconds)
    return config, extractor


def fit_window(
    model: EfficientAtForAudioClassification, extractor: EfficientAtFeatureExtractor, window_seconds: float
) -> str | None:
    """Make the extractor give windows of this length; returns what was done, None where it does already.

    The network averages over time and takes any length; what it has learnt, it has from the extractor's windows. Raises
    UserError for a window shorter than a spectrum, and for an extractor of other bands than the model's.
    """
    return change_window(extractor, window_seconds, model.config.num_mel_bins, "mel bands")


def embeds(model: EfficientAtForAudioClassification) -> bool:
    """Whether the head takes the pooled output of the backbone alone: always."""
    return True


make_features = EfficientAtFeatures
model_class, extractor_class = EfficientAtForAudioClassification, EfficientAtFeatureExtractor
