"""CLAP's audio encoder with a classification head (Wu et al., ICASSP 2023), fused or unfused."""

import math

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, ClapAudioConfig

from hf_musiclf.errors import UserError
from hf_musiclf.features.clap import ClapFeatures
from hf_musiclf.models.clap import ClapAudioClassificationConfig, ClapForAudioClassification
from hf_musiclf.models.families.overrides import checked_overrides, make_config, own_fields
from hf_musiclf.models.feature_extraction_clap import ClapWindowFeatureExtractor as Extractor

MODEL_TYPE = ClapAudioClassificationConfig.model_type
# Model types of the checkpoints that ClapForAudioClassification.from_pretrained takes.
ACCEPTS = {MODEL_TYPE, "clap", ClapAudioConfig.model_type}
ZERO_SHOT = True  # its checkpoints have a text tower
HEAD_FIELDS = ("head_hidden_size", "head_activation", "head_dropout")

# Of the published CLAP, and defaults of ClapFeatureExtractor.
SAMPLING_RATE, FRAMES_PER_SECOND, HIGHEST_HZ = 48_000, 100, 14_000
# Coarser frames would blur notes: 50 ms is a sixteenth note at 300 beats a minute.
LONGEST_HOP_SECONDS = 0.05

DERIVED = {"hidden_size": "patch_embeds_hidden_size, depths", "num_hidden_layers": "depths"}
DERIVED["patch_stride"] = "patch_size"
# Of no effect on the encoder, or with a single value that works. From scratch max_length_s is the window, rounded up:
# there is nothing to fuse.
NOT_OFFERED = ["projection_dim", "projection_hidden_act", "num_classes", "enable_fusion", "fusion_type", "aff_block_r"]
NOT_OFFERED += ["patch_embed_input_channels", "flatten_patch_embeds"]

AutoConfig.register(MODEL_TYPE, ClapAudioClassificationConfig, exist_ok=True)
AutoModelForAudioClassification.register(ClapAudioClassificationConfig, ClapForAudioClassification, exist_ok=True)
AutoFeatureExtractor.register(ClapAudioClassificationConfig, Extractor, exist_ok=True)


def head_overrides(overrides: dict) -> dict:
    """HEAD_FIELDS of a new head, checked. Raises UserError for other keys, and for a head that cannot be built."""
    for key in overrides:
        if key == "sampling_rate" or key in own_fields(ClapAudioConfig):
            raise UserError(f"model_config: {key} is a field of the encoder, which the checkpoint brings; leave it out")
    fields = checked_overrides(overrides, ClapAudioClassificationConfig(), ["audio_config"], ", ".join(HEAD_FIELDS))
    make_config(ClapAudioClassificationConfig, **fields)
    return fields


def random_parts(overrides: dict, window_seconds: float) -> tuple[ClapAudioClassificationConfig, Extractor]:
    """Config and extractor for training from scratch.

    overrides: HEAD_FIELDS, `sampling_rate` in Hz, and fields of ClapAudioConfig; what follows from others
    (`hidden_size`, ...) is set here. Raises UserError for fields that are not there or do not fit together, and for a
    window too long for the spectrogram.
    """
    head = head_overrides({key: value for key, value in overrides.items() if key.startswith("head_")})
    rate = overrides.get("sampling_rate", SAMPLING_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < FRAMES_PER_SECOND:
        raise UserError(f"model_config: sampling_rate={rate} must be a whole number of Hz, 16000 or 48000 for example")
    fields = {key: value for key, value in overrides.items() if key not in head and key != "sampling_rate"}
    for key in fields.keys() & DERIVED:
        raise UserError(f"model_config: {key} follows from {DERIVED[key]}; set those and leave {key} out")
    examples = "patch_embeds_hidden_size, depths, head_hidden_size"
    audio = make_config(ClapAudioConfig, **checked_overrides(fields, ClapAudioConfig(), NOT_OFFERED, examples))
    _check_stages(audio)
    _check_image(audio)
    audio.hidden_size = audio.patch_embeds_hidden_size * 2 ** (len(audio.depths) - 1)
    audio.patch_stride = [audio.patch_size, audio.patch_size]
    config = make_config(ClapAudioClassificationConfig, audio_config=audio, **head)
    return config, _extractor_of(audio, rate, float(window_seconds))


def _check_stages(audio: ClapAudioConfig) -> None:
    """As many heads as depths, and widths that the heads divide."""
    for name in ("depths", "num_attention_heads"):
        values = getattr(audio, name)
        if not values or any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in values):
            raise UserError(f"model_config: {name}={list(values)} must be whole numbers of 1 or more, one a stage")
    depths, heads = list(audio.depths), list(audio.num_attention_heads)
    if len(depths) != len(heads):
        raise UserError(f"model_config: depths={depths} and num_attention_heads={heads} differ in length; set both")
    for stage, count in enumerate(heads):
        width = audio.patch_embeds_hidden_size * 2**stage
        if width % count:
            raise UserError(
                f"model_config: stage {stage} is {width} wide, no multiple of its {count} heads; change "
                "patch_embeds_hidden_size or num_attention_heads"
            )


def _check_image(audio: ClapAudioConfig) -> None:
    """The encoder folds the spectrogram into a square of spec_size, cuts patches and halves their grid each stage."""
    size, mels, halvings = audio.spec_size, audio.num_mel_bins, 2 ** (len(audio.depths) - 1)
    if size % mels:
        raise UserError(f"model_config: spec_size={size} must be a multiple of num_mel_bins={mels}; set both")
    if size % (audio.patch_size * halvings):
        raise UserError(
            f"model_config: spec_size={size} must be a multiple of patch_size={audio.patch_size} times {halvings}, as "
            f"{len(audio.depths)} stages halve the grid {len(audio.depths) - 1} times"
        )
    last = size // audio.patch_size // halvings
    if audio.window_size > last:
        raise UserError(
            f"model_config: window_size={audio.window_size} exceeds the {last} x {last} patches of the last stage; "
            "lower it, or raise spec_size"
        )
    if last % (size // mels):
        raise UserError(
            f"model_config: the {last} rows of patches of the last stage must be a multiple of spec_size / "
            f"num_mel_bins = {size // mels}; raise num_mel_bins"
        )


def max_frames(audio: ClapAudioConfig) -> int:
    """Frames that fit the square: it is made of `spec_size // num_mel_bins` strips, each spec_size long."""
    return audio.spec_size * (audio.spec_size // audio.num_mel_bins)


def _hop_samples(audio: ClapAudioConfig, rate: int, window_seconds: float) -> int:
    """10 ms, or what it takes to fit the window into the encoder's frames. Raises UserError above 50 ms."""
    frames = max_frames(audio)
    hop = max(rate // FRAMES_PER_SECOND, math.ceil(window_seconds) * rate // frames + 1)
    if hop > LONGEST_HOP_SECONDS * rate:
        raise UserError(
            f"window_seconds={window_seconds} in the {frames} frames of this CLAP makes one every "
            f"{1000 * hop / rate:.0f} ms, {1000 * LONGEST_HOP_SECONDS:.0f} ms are the limit; lower "
            "--window_seconds or num_mel_bins, or raise spec_size in --model_config"
        )
    return hop


def _extractor_of(audio: ClapAudioConfig, rate: int, window_seconds: float) -> Extractor:
    """Of a new encoder: at 48 kHz and 10 s that of the published CLAP.

    ClapFeatureExtractor knows whole seconds alone, with 10.24 it fails for every shorter clip: a window of a broken
    number of seconds is repeated or padded to the next whole one.
    """
    hop = _hop_samples(audio, rate, window_seconds)
    return Extractor(
        feature_size=audio.num_mel_bins,
        sampling_rate=rate,
        hop_length=hop,
        fft_window_size=1 << (2 * hop - 1).bit_length(),  # frames overlap by half or more
        frequency_max=min(HIGHEST_HZ, rate // 2),
        max_length_s=math.ceil(window_seconds),
        truncation="rand_trunc",
        window_seconds=window_seconds,
    )


def fit_window(model: ClapForAudioClassification, extractor: Extractor, window_seconds: float) -> str | None:
    """Make model and extractor take windows of this length; returns what was done, None where they fit already.

    Shorter windows than the extractor's max_length_s are repeated up to it, as CLAP's training did: with a smaller
    max_length_s the encoder would stretch them along time to the size of its input, to a tempo that it has not seen,
    and be no faster. Longer ones, an overview and three crops, are for fused encoders alone. Where nothing is fused the
    fusion layers are frozen, lest weight decay shrink them. The window is written into the extractor. Raises UserError.
    """
    audio = model.config.audio_config
    _check_extractor(audio, extractor)
    limit, samples, notes = extractor.max_length_s, round(window_seconds * extractor.sampling_rate), []
    longer = samples > extractor.nb_max_samples
    if longer and not (audio.enable_fusion and extractor.truncation == "fusion"):
        raise UserError(
            f"window_seconds={window_seconds} exceeds the {limit} s that this CLAP sees; lower --window_seconds, or "
            "pass a fused CLAP such as laion/clap-htsat-fused"
        )
    if samples < extractor.nb_max_samples:
        notes.append(f"windows of {window_seconds} s are repeated or padded to {limit} s")
    fused = longer and samples // extractor.hop_length > extractor.nb_max_samples // extractor.hop_length
    if fused:
        notes.append(f"windows of {window_seconds} s become an overview and three crops of {limit} s")
    elif audio.enable_fusion:
        patches = model.base_model.audio_encoder.patch_embed
        patches.fusion_model.requires_grad_(False)
        patches.mel_conv2d.requires_grad_(False)
        notes.append(f"fusion layers are frozen, windows up to {limit} s do not use them")
    extractor.window_seconds = float(window_seconds)
    return "; ".join(notes) or None


def _check_extractor(audio: ClapAudioConfig, extractor: Extractor) -> None:
    """The checkpoint's extractor makes what its encoder takes, or a UserError says what to mend."""
    mels, frames = extractor.feature_size, int(extractor.nb_max_samples) // extractor.hop_length + 1
    channels = 4 if extractor.truncation == "fusion" else 1
    for name, makes, takes, fits in (
        ("feature_size", mels, audio.num_mel_bins, mels == audio.num_mel_bins),
        ("max_length_s or hop_length", frames, max_frames(audio), frames <= max_frames(audio)),
        ("truncation", channels, 1, channels == 1 or audio.enable_fusion),
    ):
        if not fits:
            raise UserError(
                f"the checkpoint's extractor makes {makes} where its encoder takes {takes}; mend {name} in its "
                "preprocessor_config.json"
            )


def embeds(model: ClapForAudioClassification) -> bool:
    """Whether the head takes the pooled output alone; a fused model looks at its inputs as well."""
    return not model.config.audio_config.enable_fusion


make_features = ClapFeatures
model_class, extractor_class = ClapForAudioClassification, Extractor
