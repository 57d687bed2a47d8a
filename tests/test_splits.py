import numpy as np
import pytest

from hf_musiclf.errors import UserError
from hf_musiclf.leakage import format_leakage, leakage_report
from hf_musiclf.splits import check_every_label, grouped_split, merge_groups


def corpus(seed=0, n_labels=10, artists=12, per_artist=(1, 20)):
    rng = np.random.default_rng(seed)
    labels, groups = [], []
    for label in range(n_labels):
        for artist in range(artists):
            n = int(rng.integers(*per_artist))
            labels += [label] * n
            groups += [f"{label}-{artist}"] * n
    return np.array(labels), groups


@pytest.mark.parametrize("seed", range(5))
def test_a_split_shares_no_group_and_loses_no_item(seed):
    labels, groups = corpus(seed)
    splits = grouped_split(labels, groups, seed=seed)
    members = {name: {groups[item] for item in items} for name, items in splits.items()}
    assert not members["train"] & members["test"]
    assert not members["train"] & members["validation"]
    assert not members["validation"] & members["test"]
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(labels)))


@pytest.mark.parametrize("seed", range(5))
def test_every_label_gets_its_share_in_every_split(seed):
    labels, groups = corpus(seed)
    splits = grouped_split(labels, groups, seed=seed)
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        for label in range(10):
            total = (labels == label).sum()
            got = (labels[splits[name]] == label).sum()
            # Twelve artists of up to 19 tracks: the nearest sum of artists lies within a few tracks of the share.
            assert got > 0 and abs(got - share * total) <= 0.06 * total + 1


def test_a_random_split_is_exactly_stratified():
    labels = np.repeat(np.arange(10), 100)
    splits = grouped_split(labels, seed=3)
    assert {name: np.bincount(labels[items]).tolist() for name, items in splits.items()} == {
        "train": [80] * 10,
        "validation": [10] * 10,
        "test": [10] * 10,
    }


def test_the_seed_decides():
    labels, groups = corpus()
    same = [grouped_split(labels, groups, seed=1)["test"].tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert grouped_split(labels, groups, seed=2)["test"].tolist() != same[0]


def test_order_of_group_names_does_not_leak_into_the_split():
    # Every item is as likely to be tested as any other: over many seeds each is tested in about a tenth.
    labels = np.repeat(np.arange(4), 20)
    tested = np.zeros(80)
    for seed in range(200):
        tested[grouped_split(labels, seed=seed)["test"]] += 1
    # Binomial(200, 0.1): mean 20, standard deviation 4.2; five of these either way.
    assert tested.min() > 0 and tested.max() < 42 and abs(tested.mean() - 20) < 1e-9


def test_items_of_unknown_group_are_only_trained_on():
    labels, groups = corpus()
    unknown = list(range(0, len(groups), 7))
    for item in unknown:
        groups[item] = None
    splits = grouped_split(labels, groups, seed=0)
    assert set(unknown) <= set(splits["train"].tolist())


def test_a_group_that_spans_labels_stays_whole():
    labels, groups = corpus(n_labels=3)
    groups = ["star" if group.endswith("-0") else group for group in groups]
    splits = grouped_split(labels, groups, seed=0)
    assert sum("star" in {groups[item] for item in items} for items in splits.values()) == 1


def test_a_label_by_one_artist_is_refused_with_label_count_and_way_out():
    labels, groups = corpus(n_labels=3, per_artist=(2, 3))
    groups = ["only one" if label == 1 else group for label, group in zip(labels, groups, strict=True)]
    splits = grouped_split(labels, groups)
    with pytest.raises(UserError, match=r"split_scheme=artist leaves no 'b' .* 24 'b' tracks by 1 known artist; use X"):
        check_every_label(splits, labels, ["a", "b", "c"], "artist", "use X", groups, "artist")


def test_leakage_counts_items_and_distinct_values():
    splits = {"train": np.array([0, 1, 2]), "validation": np.array([3]), "test": np.array([4, 5, 6])}
    groups = ["a", "b", None, "c", "a", "a", None]
    titles = ["x", None, None, None, "x", "y", "x"]
    hashes = list("abcdefa")
    report = leakage_report(splits, groups, titles, hashes)
    assert report["train/test"]["group"] == {"shared": 1, "items": 2, "known": 2, "share": 1.0}
    assert report["train/test"]["title"] == {"shared": 1, "items": 2, "known": 3, "share": 0.6667}
    assert report["train/test"]["audio"] == {"shared": 1, "items": 1, "known": 3, "share": 0.3333}
    assert report["train/validation"]["group"]["items"] == 0
    text = format_leakage(report, "artist")
    assert "2 of 2 test tracks share their artist with train (100 %)" in text
    assert "1 of 3 test tracks have an exact duplicate in train" in text


def test_a_grouped_split_reports_no_shared_group():
    labels, groups = corpus()
    report = leakage_report(grouped_split(labels, groups), groups, [None] * len(groups), [None] * len(groups))
    assert all(found["group"]["items"] == 0 for found in report.values())


def test_duplicates_join_groups_transitively():
    assert merge_groups(["a", "b", "c", "d"], ["1", "1", "2", "3"]) == ["a", "a", "c", "d"]
    assert merge_groups(["c", "b", "b", "a"], ["1", "1", "2", "2"]) == ["a", "a", "a", "a"]
    assert merge_groups([None, "b", None], [None, "1", "1"]) == [None, "b", "b"]


def test_fractions_must_add_up():
    with pytest.raises(ValueError, match=r"add up to 0\.900"):
        grouped_split([0, 1], fractions={"train": 0.8, "test": 0.1})
