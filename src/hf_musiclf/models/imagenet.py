"""VGGs that have learnt ImageNet's labels, as Transformers folders in the cache."""

from pathlib import Path

import torch
from filelock import FileLock
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import load_file

from hf_musiclf.errors import UserError
from hf_musiclf.files import file_digest, write_whole
from hf_musiclf.models.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hf_musiclf.models.vgg import STAGES, VggConfig, VggForAudioClassification
from hf_musiclf.models.vgg_checkpoints import load_imagenet
from hf_musiclf.reach import hub_is_out_of_reach

# timm's copies on the Hub of torchvision's weights -> layers.
IMAGENET = {f"timm/vgg{layers}_bn.tv_in1k": layers for layers in STAGES}
WEIGHTS_FILE = "model.safetensors"
FORMAT = 2  # of the folders: a change of what they hold raises it
SUFFIXES = (".pth", ".pt", ".safetensors")


def is_file_of_weights(name: str) -> bool:
    return Path(name).suffix in SUFFIXES


def folder_of_imagenet(name: str, revision: str = "main") -> str:
    """A Transformers folder with the convolutions of a VGG on images, made once, without a head.

    name: one of IMAGENET, or a file of torchvision's or timm's weights (.pth, .safetensors). revision: on the Hub.
    Raises UserError for a file that holds no VGG with batch norm, and where the Hub's cannot be had.
    """
    path = _download(name, revision) if name in IMAGENET else Path(name)
    if not path.is_file():
        raise UserError(
            f"model={name} is not there; pass a file of torchvision's weights, or one of {', '.join(IMAGENET)}"
        )
    cache = Path(constants.HF_HUB_CACHE).parent / "vgg"
    folder = cache / f"{path.stem}-{file_digest(path, 'sha256')[:16]}-v{FORMAT}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            model = _converted(path)
            backbone = {f"vgg.{key}": value for key, value in model.vgg.state_dict().items()}

            def write(beside: Path) -> None:
                model.save_pretrained(beside, state_dict=backbone)
                SpectrogramFeatureExtractor(num_mel_bins=model.config.feature_size).save_pretrained(beside)

            write_whole(folder, write)
    return str(folder)


def _download(name: str, revision: str) -> Path:
    try:
        offline = hub_is_out_of_reach()
        return Path(hf_hub_download(name, WEIGHTS_FILE, revision=revision, local_files_only=offline))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"model={name} is not in the Hub's cache and cannot be downloaded; pass a file of torchvision's weights "
            f"instead ({str(error).splitlines()[0]})"
        ) from error


def _converted(path: Path) -> VggForAudioClassification:
    try:
        read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its parts do: of zip, of pickle, of Unicode
        raise UserError(f"model={path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    if not isinstance(read, dict):
        raise UserError(
            f"model={path} holds a {type(read).__name__}, no state dict; pass a file of torchvision's weights"
        )
    convolutions = sum(getattr(value, "ndim", 0) == 4 for key, value in read.items() if key.startswith("features."))
    layers = next((layers for layers, stages in STAGES.items() if sum(stages) == convolutions), None)
    if layers is None:
        raise UserError(
            f"model={path} has {convolutions} convolutions under features, no VGG; pass torchvision's vgg11_bn"
        )
    with torch.random.fork_rng(devices=[]):  # a run that converts draws the same head as one that finds the folder
        model = VggForAudioClassification(VggConfig(layers=layers, width_mult=1.0))
    load_imagenet(model, read)
    return model
