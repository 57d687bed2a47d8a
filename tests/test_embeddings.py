"""A head on kept embeddings is the head of the plain way."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import noise
from recipe_runs import ROOT, Killed, data_flags, dies_in_step, flags, recipe
from tiny_clap import write_clap
from tiny_maestro import laid_out, three_composers, write_maestro
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ClapModel

from hf_musiclf.arguments import DataArguments
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.data.maestro import load_maestro
from hf_musiclf.data.maestro.files import FINGERPRINT_BYTES
from hf_musiclf.data.tracks import FILE_HASH
from hf_musiclf.data.window_dataset import EvaluationWindows
from hf_musiclf.embeddings import EmbeddingCache, without_backbone
from hf_musiclf.features.ast import AstFeatures
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.trainer import MusicTrainer

RATE = 16_000


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_mel_bins=32,
        max_length=128, frequency_stride=16, time_stride=16, num_labels=10,
    )  # fmt: skip
    return ASTForAudioClassification(config).eval()


@pytest.fixture(scope="module")
def windows(corpus):
    known = data_flags(corpus)
    args = DataArguments(
        dataset="synthetic", data_dir=str(corpus), cache_dir=str(known["cache_dir"]), split_scheme="artist",
        window_seconds=1.28, eval_hop_seconds=0.8, train_windows="all",
    )  # fmt: skip
    return cut_windows(load_tracks(args, verbose=False), args, RATE)


@pytest.fixture
def cache(model, tmp_path):
    return EmbeddingCache(model, extractor(), str(tmp_path))


def extractor(**changes):
    return ASTFeatureExtractor(**{"num_mel_bins": 32, "max_length": 128, **changes})


def embedder(model, calls=None):
    features = AstFeatures(extractor())

    @torch.no_grad()
    def embed(batch):
        if calls is not None:
            calls.append(len(batch["labels"]))
        return model.base_model(**features(batch["waveforms"], batch["lengths"])).pooler_output

    return embed


def test_the_head_alone_says_of_an_embedding_what_the_model_says_of_the_input(model):
    inputs, labels = torch.randn(3, 128, 32), torch.tensor([0, 5, 9])
    light = without_backbone(model)
    with torch.no_grad():
        embeddings = model.base_model(inputs).pooler_output
        whole, head = model(inputs, labels=labels), light(embeddings, labels=labels)
    assert torch.equal(whole.logits, head.logits) and torch.equal(whole.loss, head.loss)
    assert set(light.state_dict()) == {key for key in model.state_dict() if key.startswith("classifier")}
    assert light.classifier is model.classifier and len(model.state_dict()) > len(light.state_dict())


def test_every_window_has_its_own_embedding_in_its_place(model, windows, cache):
    part = windows["test"]
    assert cache.fill([part], embedder(model), batch_size=7) == len(part)
    found = cache.read(part)
    for index in (0, 1, len(part) // 2, len(part) - 1):
        waveform = torch.from_numpy(part[index]["waveform"])[None]
        with torch.no_grad():
            expected = model.base_model(**AstFeatures(extractor())(waveform)).pooler_output[0]
        np.testing.assert_allclose(found[index], expected, atol=1e-5)


def test_what_is_there_is_not_computed_again_whatever_the_split(model, windows, cache):
    cache.fill([windows["validation"], windows["test"]], embedder(model), batch_size=16)
    calls = []
    assert (
        cache.fill([windows["test"], windows["validation"]], embedder(model, calls), batch_size=16) == 0 == len(calls)
    )
    assert cache.fill([windows["train"]], embedder(model, calls), batch_size=16) == len(windows["train"]) == sum(calls)


def test_a_pass_that_is_stopped_goes_on_where_it_was(model, windows, cache):
    part, embed = windows["test"], embedder(model)

    def dies(batch, calls=[]):  # noqa: B006  counts its calls
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return embed(batch)

    with pytest.raises(Killed):
        cache.fill([part], dies, batch_size=5)
    assert not list(cache.folder.glob(".*"))  # nothing half written
    left = cache.fill([part], embed, batch_size=5)
    assert 0 < left < len(part) and len(cache.read(part)) == len(part)


def test_two_processes_share_the_work(model, windows, cache):
    parts = [cache.fill([windows["test"]], embedder(model), 16, share=(rank, 2)) for rank in range(2)]
    assert sum(parts) == len(windows["test"]) and min(parts) > 0
    assert len(cache.read(windows["test"])) == len(windows["test"])


def test_another_weight_setting_precision_or_window_is_another_embedding(model, windows, tmp_path):
    def folder(model=model, extractor=extractor(), **changes):  # noqa: B008
        return EmbeddingCache(model, extractor, str(tmp_path), **changes).folder

    other = ASTForAudioClassification(model.config)
    other.load_state_dict(model.state_dict())
    assert folder() == folder(other)
    with torch.no_grad():
        other.classifier.dense.weight += 1  # the head is not the backbone
        assert folder() == folder(other)
        next(other.base_model.parameters()).view(-1)[0] += 1e-6
    assert len({folder(), folder(other), folder(extractor=extractor(mean=-4.0)), folder(precision="bf16")}) == 4
    twin = ASTForAudioClassification(type(model.config)(**{**model.config.to_dict(), "hidden_act": "relu"}))
    twin.load_state_dict(model.state_dict())
    relabelled = ASTForAudioClassification(
        type(model.config)(**{**model.config.to_dict(), "id2label": {0: "a", 1: "b"}})
    )
    relabelled.base_model.load_state_dict(model.base_model.state_dict())
    assert folder(twin) != folder() == folder(relabelled)
    cache, part = EmbeddingCache(model, extractor(), str(tmp_path)), windows["test"]
    assert len({cache.path(part, track) for track in part.tracks()}) == len(part.rows)
    before = cache.path(part, 0)
    shorter = type(part)(*_parts(part, window=part.window - 160))
    assert cache.path(shorter, 0) != before


def _parts(windows, window):
    class Table:
        rows = windows.audio
        groups = windows.group_of_track

        @staticmethod
        def column(name):
            return {
                "label": windows.label_of_track.tolist(),
                "duration": (windows.samples_of_track / RATE).tolist(),
                "track": windows.track_names,
                "audio_hash": windows.hash_of_track,
            }[name]

    return Table, range(len(windows.rows)), RATE, window, windows.hop


@pytest.mark.parametrize("form", ["folder", "ZIP_STORED"])
def test_a_file_that_was_mended_in_its_middle_is_embedded_anew(form, model, cache, tmp_path):
    folder = write_maestro(tmp_path / "made", three_composers(), seconds=10.0)
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.*")}
    corpus = laid_out(tmp_path / "maestro", contents, form)

    def windows():
        table = load_maestro(corpus)
        assert all(found.startswith(FILE_HASH) for found in table.column("audio_hash"))  # nothing was decoded
        return EvaluationWindows(table, [0, 1], RATE, window=16_000, hop=16_000)

    before = windows()
    assert cache.fill([before], embedder(model), batch_size=10) == 20
    assert cache.fill([windows()], embedder(model), batch_size=10) == 0
    kept = cache.read(before)
    track = f"{before.track_names[0]}.wav"
    file, sound = tmp_path / "maestro" / track if form == "folder" else corpus, contents[track]
    assert len(sound) > 2 * FINGERPRINT_BYTES + 16_000
    status, whole, half_a_second = (
        file.stat(),
        file.read_bytes(),
        (noise(0.5, 8000, 99) * 32768).astype("<i2").tobytes(),
    )
    place = whole.index(sound) + 5 * 16_000  # bytes: about the fifth second, between the ends that the hash sees
    file.write_bytes(whole[:place] + half_a_second + whole[place + len(half_a_second) :])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # as unzip and rsync do
    after = windows()
    assert after.hash_of_track == before.hash_of_track
    assert cache.fill([after], embedder(model), batch_size=10) == (10 if form == "folder" else 20)
    changed = np.abs(cache.read(after) - kept).max(axis=1) > 1e-3
    assert 5 in np.flatnonzero(changed) and changed.sum() < 4  # the resampler hears a little beyond a window's edges


@pytest.mark.parametrize("family", ["ast", "clap"])
def test_kept_embeddings_train_the_same_head_as_the_plain_way(family, finished, corpus, tmp_path):
    changes = dict(data_flags(corpus), train_layers="head", train_windows="all", cache_dir=tmp_path / "cache")
    if family == "ast":
        path, changes["model"] = ROOT / "recipes" / "ast_gtzan.py", finished[0]
    else:
        path, changes["model"] = ROOT / "recipes" / "clap_maestro.py", write_clap(tmp_path / "clap", fused=False)
    common = dict(changes, model_config=None)
    kept, plain = (
        recipe(path).main(flags(**common, output_dir=tmp_path / name, cache_embeddings=name == "kept"))
        for name in ("kept", "plain")
    )
    for level in ("track", "window"):
        assert kept["test"][level]["accuracy"] == plain["test"][level]["accuracy"]
        assert kept["test"][level]["log_loss"] == pytest.approx(plain["test"][level]["log_loss"], rel=1e-4)
    one, other = (TrackClassifier(str(tmp_path / name)).model.state_dict() for name in ("kept", "plain"))
    assert set(one) == set(other)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], atol=1e-4, rtol=1e-3, msg=key)
    assert json.loads((tmp_path / "kept" / "config.json").read_text())["architectures"]


def test_a_killed_head_goes_on_and_its_backbone_is_not_run_again(finished, corpus, tmp_path, monkeypatch):
    changes = dict(
        data_flags(corpus), train_layers="head", train_windows="all", model=finished[0], model_config=None,
        cache_dir=tmp_path / "cache", eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3,
    )  # fmt: skip
    whole = recipe().main(flags(**changes, output_dir=tmp_path / "whole"))

    def never(*args, **kwargs):
        raise AssertionError("the backbone was run again")

    with monkeypatch.context() as patch:
        patch.setattr(
            "transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer.ASTModel.forward",
            never,
        )
        patch.setattr(MusicTrainer, "training_step", dies_in_step(5))
        with pytest.raises(Killed):
            recipe().main(flags(**changes, output_dir=tmp_path / "killed"))
    resumed = recipe().main(flags(**changes, output_dir=tmp_path / "killed"))
    assert resumed["test"] == whole["test"] and resumed["validation"] == whole["validation"]


def test_a_fused_clap_is_trained_the_plain_way(tmp_path):
    from hf_musiclf.arguments import ModelArguments
    from hf_musiclf.models.loading import load_classifier

    found = [
        load_classifier(
            ModelArguments(model=str(write_clap(tmp_path / str(fused), fused)), train_layers="head"), ["a", "b"], 2.0,
            "clap-audio-classification",
        ).embeds
        for fused in (False, True)
    ]  # fmt: skip
    assert found == [True, False] and ClapModel.from_pretrained(tmp_path / "True").config.audio_config.enable_fusion
