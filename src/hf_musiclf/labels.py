"""Ordered label names and their ids, as Transformers' configs want them."""

from collections.abc import Sequence


def label_mappings(names: Sequence[str]) -> tuple[dict[str, int], dict[int, str]]:
    """Ids in the order of the names.

    names: distinct label names, in the order of the model's logits. Returns `(label2id, id2label)`. Raises ValueError
    for fewer than two names or a name that stands twice.

    >>> label_mappings(["blues", "jazz"])
    ({'blues': 0, 'jazz': 1}, {0: 'blues', 1: 'jazz'})
    """
    if len(names) < 2:
        raise ValueError(f"a classifier needs at least two labels, got {list(names)}")
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ValueError(f"label names must be distinct, {repeated} stand more than once")
    label2id = {name: index for index, name in enumerate(names)}
    return label2id, {index: name for name, index in label2id.items()}
