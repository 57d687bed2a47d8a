"""GTZAN's archive on the Hub: read if it is whole, and refused with the way out."""

import errno
import hashlib
import os

import huggingface_hub
import pytest
from conftest import write_archive

from hf_musiclf.data import gtzan
from hf_musiclf.data.gtzan import load_gtzan
from hf_musiclf.errors import UserError


def test_offline_the_three_ways_to_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    said = r"GTZAN cannot be downloaded from marsyas/gtzan \(the Hub cannot be reached\)"
    with pytest.raises(UserError, match=rf"{said}; three ways to data: .* --dataset synthetic"):
        load_gtzan(cache_dir=str(tmp_path))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_taken_for_a_hub_out_of_reach(tmp_path, monkeypatch, number):
    def download(*names, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        load_gtzan(cache_dir=str(tmp_path))
    assert caught.value.errno == number


def test_a_download_with_another_md5_is_refused(tmp_path, monkeypatch):
    (tmp_path / "genres.tar.gz").write_bytes(b"not GTZAN")
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options))
        return str(tmp_path / "genres.tar.gz")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    digest = hashlib.md5(b"not GTZAN", usedforsecurity=False).hexdigest()
    with pytest.raises(
        UserError, match=f"has MD5 {digest}, GTZAN's archive has {gtzan.HUB_MD5}; delete it and try again"
    ):
        load_gtzan(cache_dir=str(tmp_path))
    assert asked == [("marsyas/gtzan", "data/genres.tar.gz", {"repo_type": "dataset", "local_files_only": True})]


def test_a_sound_download_is_read(gtzan_folder, tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "genres.tar.gz", gtzan_folder)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *names, **options: str(archive))
    monkeypatch.setattr(gtzan, "HUB_MD5", hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest())
    assert len(load_gtzan(cache_dir=str(tmp_path / "cache"))) == 40
