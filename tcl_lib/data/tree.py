"""Folders with `train/<class>/*` and `test/<class>/*`."""

from collections.abc import Collection
from pathlib import Path


def class_names(root: Path) -> list[str]:
    """Return the sorted names of the class folders, which must be the same in train/ and test/.

    Raise ValueError or FileNotFoundError that names the bad folder.
    """
    names = {}
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise FileNotFoundError(
                f"data_root={str(root)!r}: has no {part}/; it must contain train/<class>/* and test/<class>/*"
            )
        names[part] = {path.name for path in (root / part).iterdir() if belongs(path)}
        for name in sorted(names[part]):
            if not (root / part / name).is_dir():
                raise ValueError(f"{root / part / name}: is not a class folder")
    for part, other in (("train", "test"), ("test", "train")):
        for name in sorted(names[part] - names[other]):
            raise ValueError(f"{root / part / name}: class {name!r} is missing in {root / other}")
    if len(names["train"]) < 2:
        raise ValueError(
            f"{root / 'train'}: has {len(names['train'])} class folders, at least 2 are required"
        )
    return sorted(names["train"])


def class_files(folder: Path, classes: list[str], suffixes: Collection[str]) -> list[tuple[Path, int]]:
    """Return every file below train/ or test/ with its class, in a fixed order.

    Raise ValueError that names an empty folder or a file with another suffix.
    """
    members = []
    for label, name in enumerate(classes):
        paths = sorted(path for path in (folder / name).iterdir() if belongs(path))
        if not paths:
            raise ValueError(f"{folder / name}: class folder is empty")
        for path in paths:
            if path.suffix.lower() not in suffixes:
                raise ValueError(f"{path}: is not a {', '.join(suffixes)} file")
            if not path.is_file():
                raise ValueError(f"{path}: is not a file, or is a broken link")
        members += [(path, label) for path in paths]
    return members


def check_disjoint(train: list[tuple[Path, int]], test: list[tuple[Path, int]]) -> None:
    """Raise ValueError if a file is in both parts, also through a link."""
    known = {path.resolve(): path for path, _ in train}
    for path, _ in test:
        if path.resolve() in known:
            raise ValueError(f"{path}: is the same file as {known[path.resolve()]}")


def belongs(path: Path) -> bool:
    """Return False for files that file managers create."""
    return not path.name.startswith(".") and path.name not in ("Thumbs.db", "desktop.ini")
