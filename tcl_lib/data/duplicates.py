"""Files with the same content: an image or a recording that a folder of data holds twice."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from tcl_lib.data.parts import Split


def check_duplicates(train: Split, test: Split, paths: Sequence[Path], allow: bool) -> None:
    """Compare the content of all files by their hashes: a copy or a link has that of its original.

    `paths` are those of the stored samples; `allow` makes the error a warning.

    Raises ValueError that names a file of the test set and one of the training set with the same content.
    Warn of files with the same content within a part.
    """
    chosen = torch.cat([train.indices, test.indices]).tolist()
    labels = torch.cat([train.labels, test.labels]).tolist()
    hashes = torch.cat([train.content, test.content]).numpy()  # uint8 [N, bytes]
    first: dict[bytes, int] = {}  # content -> its first place
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    for place, content in enumerate(hashes.view(f"V{hashes.shape[1]}").ravel().tolist()):
        other = first.setdefault(content, place)
        if other == place:
            continue
        if other < len(train) <= place:
            kind = "in train/ and in test/"
        else:
            kind = "twice in a class" if labels[other] == labels[place] else "in two classes"
        pairs.setdefault(kind, []).append((paths[chosen[place]], paths[chosen[other]]))
    for kind, found in pairs.items():
        (path, other), count = found[0], len(found)
        if kind == "in train/ and in test/" and not allow:
            more = f" ({count} such files in test/)" if count > 1 else ""
            raise ValueError(
                f"{path}: has the same content as {other}{more}; remove one of them,"
                " or set allow_duplicates=True to use both"
            )
        files = "file is" if count == 1 else "files are"
        warnings.warn(f"{count} {files} {kind}, for example {path} with the content of {other}", stacklevel=4)
