"""Files with the same content in a folder of data: refused in both parts, counted within one."""

import os
import shutil
import warnings

import pytest
from conftest import messages
from PIL import Image

from tcl_lib import RunConfig
from tcl_lib.data.folder import load_folder

HOW = {
    "copy": shutil.copy,
    "hard link": os.link,
    "symbolic link": os.symlink,
    "saved anew": lambda source, target: Image.open(source).save(target, pnginfo=None, compress_level=0),
}


@pytest.mark.parametrize("how", HOW)
def test_load_folder_names_two_files_with_the_same_content_in_both_parts(image_folder, tmp_path, how):
    source, target = image_folder / "train" / "cat" / "a.png", image_folder / "test" / "cat" / "w.png"
    HOW[how](source, target)
    for _ in ("decoded", "from the cache"):
        with pytest.raises(ValueError, match=r"w\.png: has the same content") as caught:
            load_folder(image_folder, tmp_path / "cache")
        assert str(caught.value) == (
            f"{target}: has the same content as {source};"
            " remove one of them, or set allow_duplicates=True to use both"
        )
    with pytest.warns(UserWarning, match="in train/ and in test/") as warned:
        _, test, _ = load_folder(image_folder, tmp_path / "cache", allow_duplicates=True)
    assert messages(warned) == [
        f"1 file is in train/ and in test/, for example {target} with the content of {source}"
    ]
    assert len(test) == 7


def test_load_folder_counts_files_in_both_parts(image_folder, tmp_path):
    for name in "abc":
        suffix = {"a": ".png", "b": ".jpg", "c": ".webp"}[name]
        shutil.copy(image_folder / "train" / "cat" / f"{name}{suffix}", image_folder / "test" / "dog")
    with pytest.raises(ValueError, match=r"dog/a\.png: .*cat/a\.png \(3 such files in test/\); remove"):
        load_folder(image_folder, tmp_path / "cache")


@pytest.mark.parametrize(("label", "words"), [("cat", "twice in a class"), ("dog", "in two classes")])
@pytest.mark.parametrize("part", ["train", "test"])
def test_load_folder_warns_of_the_same_content_within_a_part(image_folder, tmp_path, part, label, words):
    source = next((image_folder / part / "cat").iterdir())
    copies = [image_folder / part / label / f"z{number}{source.suffix}" for number in range(2)]
    for copy in copies:
        shutil.copy(source, copy)
    with pytest.warns(UserWarning, match=words) as warned:
        load_folder(image_folder, tmp_path / "cache")
    assert messages(warned) == [f"2 files are {words}, for example {copies[0]} with the content of {source}"]


def test_load_folder_says_nothing_of_different_files(image_folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_folder(image_folder, tmp_path / "cache")


def test_allow_duplicates_is_no_part_of_a_run_s_identity():
    strict, lenient = (
        RunConfig(dataset="folder", data_root="data", allow_duplicates=allowed) for allowed in (False, True)
    )
    assert strict.identity() == lenient.identity()
    assert strict.name == lenient.name


@pytest.mark.parametrize("dataset", ["digits", "nmnist"])
def test_allow_duplicates_is_refused_where_it_has_no_effect(dataset):
    with pytest.raises(ValueError, match=f"allow_duplicates=True: has no effect with dataset='{dataset}'"):
        RunConfig(dataset=dataset, allow_duplicates=True)
