"""The run directory: written by training, read by everything else.

    runs/<name>/config.json           parameters, data, versions, commit; written first
    runs/<name>/metrics.csv           a row an epoch
    runs/<name>/checkpoint.pt         all that a run needs to go on (`tcl_lib.checkpoints`)
    runs/<name>/checkpoint.previous.pt    the one before it; gone when the run is finished
    runs/<name>/accuracy_by_step.csv  on the test set, with the calibration error
    runs/<name>/firing_rates.csv      a row a layer and time step
    runs/<name>/operations.csv        synaptic operations and energy, a row a layer and time step
    runs/<name>/similarity.csv        of the representations at every two time steps
    runs/<name>/features.npz          those representations, of a sample of the test set
    runs/<name>/SHA256SUMS            of all of these but the checkpoints, as sha256sum writes and checks them
    runs/<name>/result.json           written last: a run is finished when it is there
    runs/<name>/.lock, .writer        held while a process trains the run, and which it is

A finished run's files are read only if they fit their checksums. None is executed or unpickled.
Imports no torch until a model or a checkpoint is asked for.
"""

import hashlib
import io
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tcl_lib import checkpoints, files
from tcl_lib.config import PLACEMENT, REPOSITORY, RunConfig
from tcl_lib.files import Damaged

if TYPE_CHECKING:
    from tcl_lib.backbones import SpikingNetwork

CONFIG, METRICS = "config.json", "metrics.csv"
ACCURACY, FIRING_RATES = "accuracy_by_step.csv", "firing_rates.csv"
OPERATIONS, SIMILARITY, FEATURES = "operations.csv", "similarity.csv", "features.npz"
SUMS, RESULT = "SHA256SUMS", "result.json"
LOCK, WRITER = ".lock", ".writer"
# What result.json holds at the least.
RESULTS = (
    "test_accuracy",
    "test_accuracy_t1",
    "validation_accuracy",
    "validation_accuracy_t1",
    "best_epoch",
    "best_validation_accuracy",
    "seconds",
)
EVALUATION = (ACCURACY, FIRING_RATES, OPERATIONS, SIMILARITY, FEATURES)
# In the order in which a run is taken apart.
FILES = (RESULT, SUMS, *EVALUATION, checkpoints.LAST, checkpoints.PREVIOUS, METRICS, CONFIG)
MEND = "starting the run again mends it from its checkpoint, overwrite=True trains it anew"


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def result(self) -> dict[str, Any]:
        """The numbers of result.json: accuracies in percent, of the last epoch if not said otherwise."""
        path = self.path / RESULT
        result = parse_json(path, read_finished(path))
        for name in RESULTS:
            if not isinstance(result.get(name), int | float):
                raise ValueError(f"{path}: is damaged or was written by another version (no {name}); {MEND}")
        return result

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row an epoch: data, losses, accuracies in percent, the firing rate of every layer, seconds."""
        return _read_csv(self.path / METRICS)

    @cached_property
    def accuracy_by_step(self) -> pd.DataFrame:
        """On the test set, in percent, a row a time step: data and the columns of
        `evaluation.accuracy_by_step`.
        """
        return _read_csv(self.path / ACCURACY)

    @cached_property
    def firing_rates(self) -> pd.DataFrame:
        """On the test set: columns data, layer, time_step, firing_rate."""
        return _read_csv(self.path / FIRING_RATES)

    @cached_property
    def operations(self) -> pd.DataFrame:
        """Synaptic operations and energy of a test sample, a row a layer and time step: data and the columns
        of `operations.SynapticOperations.table`.
        """
        return _read_csv(self.path / OPERATIONS)

    @cached_property
    def similarity(self) -> pd.DataFrame:
        """Of the `features` at every two time steps: data and the columns of
        `similarity.temporal_similarity`.
        """
        return _read_csv(self.path / SIMILARITY)

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Of a sample of the test set: features float16 [T, N, D], labels [N], samples [N] (their indices).

        Raises FileNotFoundError where they were not kept, ValueError where they are damaged.
        """
        path = self.path / FEATURES
        if not path.exists():
            raise FileNotFoundError(f"{path}: the run's features were not kept")
        content = io.BytesIO(read_finished(path))
        try:
            with np.load(content, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ("features", "labels", "samples")}
        except Exception as error:  # what NumPy raises depends on what is wrong
            raise ValueError(f"{path}: is damaged ({type(error).__name__}); {MEND}") from error
        shapes = [array.shape for array in found.values()]
        if len(shapes[0]) != 3 or shapes[1:] != 2 * [shapes[0][1:2]]:
            raise ValueError(f"{path}: is damaged (arrays of shapes {shapes})")
        return found

    @cached_property
    def used(self) -> RunConfig:
        """The config with the precision that was used, where it says "auto"."""
        return replace(self.config, precision=load_precision(self.path))

    @cached_property
    def setting(self) -> str:
        """What runs must have in common to be compared: the config's setting, and how many samples."""
        images = self._data("images")
        return f"{self.used.setting}, {images['train']} training and {images['test']} test samples"

    def _data(self, what: str) -> Any:
        """What config.json says of the data."""
        try:
            return read_config(self.path)["data"][what]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path / CONFIG}: is damaged (no {what} of the data)") from error

    @property
    def classes(self) -> list[str]:
        """The classes' names."""
        return self._data("classes")

    def model(self) -> "SpikingNetwork":
        """The trained network of the last epoch, on the CPU, in evaluation mode.

        It computes in float32; for the numbers of a run in bf16-mixed, use it inside `torch.autocast`.
        Raises FileNotFoundError where the checkpoint was not kept, ValueError where it is damaged.
        """
        from tcl_lib.backbones import build_network

        network = build_network(self.config, self._data("image_shape"), len(self.classes))
        path = self.path / checkpoints.LAST
        state = checkpoints.load(path)
        try:
            network.load_state_dict(state["network"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path}: is not this run's") from error
        return network.eval()

    def __repr__(self) -> str:
        result = self.result
        return (
            f"{self.name}, data {self.config.data_label}: test accuracy {result['test_accuracy']:.2f} %"
            f" of the last epoch ({self.config.epochs}), validation {result['validation_accuracy']:.2f} %;"
            f" best on validation data: epoch {result['best_epoch']} with"
            f" {result['best_validation_accuracy']:.2f} %"
        )


def load_run(path: str | Path) -> Run:
    """Read a finished run from its folder; a relative path starts here or at the repository.

    Raises FileNotFoundError where there is none, ValueError where it is not finished or not readable.
    """
    path = Path(os.path.expanduser(path))
    if not path.exists():
        path = REPOSITORY / path
    if not (path / CONFIG).exists():
        raise FileNotFoundError(f"{path}: is not a run, it holds no {CONFIG}")
    if not (path / RESULT).exists():
        raise ValueError(f"{path}: the run is not finished; start it again to continue it")
    read_finished(path / CONFIG)
    return Run(path, saved_config(path))


def load_runs(root: str | Path = "runs") -> pd.DataFrame:
    """The finished runs in a folder, as `table` has them.

    A folder that is empty, not finished or damaged is skipped, with a line that names it. A relative root
    starts here or at the repository. Raises FileNotFoundError where there is no such folder.
    """
    root = Path(os.path.expanduser(root))
    if not root.is_dir():
        root = REPOSITORY / root
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: is not a folder of runs")
    rows = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            files = [file.name for file in path.iterdir()]
            if files and not any(name.startswith(FILES) for name in files):
                continue  # somebody's figures, or a folder of runs
            rows.append(_row(load_run(path)))
        except (OSError, ValueError) as error:
            print(f"skipped {error}")
    return pd.DataFrame(rows)


def table(found: Iterable[Run]) -> pd.DataFrame:
    """A row a run: name, path, data, setting, variant, every parameter and every result.

    Runs of one setting may be compared; those of one variant in it differ in the seed alone, and may be
    averaged. How many samples there were is part of the setting.
    """
    return pd.DataFrame([_row(run) for run in found])


def _row(run: Run) -> dict:
    labels = {"name": run.name, "path": str(run.path), "data": run.config.data_label}
    labels |= {"setting": run.setting, "variant": run.config.variant}
    return labels | run.used.to_dict() | run.result


def one_setting(table: pd.DataFrame) -> str:
    """The setting of all rows of a table. Raises ValueError where they are not to be compared."""
    settings = sorted(table["setting"].unique()) if len(table) else []
    if len(settings) != 1:
        raise ValueError(
            f"runs of {len(settings)} settings, {'; '.join(settings)}:"
            " only runs of one can be averaged or compared"
        )
    return settings[0]


def gather(table: pd.DataFrame, what: str | Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
    """One table of every run of a table of runs, below each other: "metrics", "accuracy_by_step" and so on.

    Or what a function makes of each run. In front stands what a reader tells runs apart by: run, setting,
    variant, seed, time_steps and events. A run whose table is missing or damaged is left out, with a
    line that names it.
    """
    tables = []
    for row in table.itertuples():
        labels = {"run": row.name, "setting": row.setting, "variant": row.variant}
        labels |= {"seed": row.seed, "time_steps": row.time_steps}
        try:
            run = load_run(row.path)
            rows = getattr(run, what) if isinstance(what, str) else what(run)
        except (OSError, ValueError) as error:
            print(f"skipped {error}")
            continue
        labels["events"] = run.config.events
        tables.append(pd.DataFrame(labels, rows.index).join(rows))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read_config(path: Path) -> dict[str, Any]:
    """What config.json says, of a run that is finished or not.

    Raises Damaged where it does not fit its checksum or is not JSON, FileNotFoundError where there is none.
    """
    file = path / CONFIG
    if not file.exists():
        raise FileNotFoundError(f"{file}: is missing")
    sealed = (path / RESULT).exists() and (path / SUMS).exists() and CONFIG in _listed_sums(path)
    return parse_json(file, read_finished(file) if sealed else file.read_bytes())


def saved_config(path: Path) -> RunConfig:
    """The config a run was started with.

    Raises Damaged where it cannot be read, ValueError where a version with other parameters wrote it, which
    it names.
    """
    parameters = read_config(path).get("parameters")
    if not isinstance(parameters, dict):
        raise Damaged(f"{path / CONFIG}: is damaged (no parameters)")
    known = RunConfig().to_dict()
    unknown = [name for name in parameters if name not in known]
    missing = [name for name in known if name not in parameters and name not in PLACEMENT]
    differs = [
        f"{words} {', '.join(names)}"
        for words, names in (("unknown here:", unknown), ("missing there:", missing))
        if names
    ]
    if differs:
        raise ValueError(
            f"{path / CONFIG}: was written by another version, with other parameters ({'; '.join(differs)});"
            " give another run_name, or overwrite=True"
        )
    try:
        return RunConfig.from_dict(parameters)
    except ValueError as error:
        raise ValueError(f"{path / CONFIG}: {error}") from error


def load_precision(path: Path) -> str:
    """The precision that a run was started in. Raises ValueError where config.json is damaged."""
    saved = read_config(path).get("precision", saved_config(path).precision)
    if saved not in ("auto", "32-true", "bf16-mixed"):
        raise ValueError(f"{path / CONFIG}: is damaged (precision {saved!r})")
    return saved


def find_finished(config: RunConfig) -> Run | None:
    """The finished run of this config, sound in all its files; else None, or if it is to be overwritten.

    Raises ValueError where the run's folder belongs to a run with other parameters.
    """
    path = config.run_path
    if config.overwrite:
        return None
    try:
        saved = saved_config(path).identity()
    except (FileNotFoundError, Damaged):
        return None
    given = config.identity()
    if config.precision == "auto":
        given["precision"] = saved["precision"]  # whichever it was
    changes = [
        f"{key}={saved.get(key)!r} there, {given.get(key)!r} here"
        for key in given | saved
        if saved.get(key) != given.get(key)
    ]
    if changes:
        raise ValueError(
            f"{path}: holds a run with other parameters ({'; '.join(changes)});"
            " give another run_name, or overwrite=True"
        )
    return load_run(path) if (path / RESULT).exists() and _damage(path) is None else None


def mend(path: Path) -> bool:
    """Have a run whose files were damaged or lost go on from its checkpoint, with a line that says so.

    A config is put back; what was measured is measured again. Raises Damaged for a finished run without a
    sound checkpoint, which is left as it is. Returns: whether it was a finished one.
    """
    damage = _damage(path)
    if damage is None:
        return False
    finished = (path / RESULT).exists()
    if finished:
        try:
            state = checkpoints.load(path / checkpoints.LAST)
        except (Damaged, FileNotFoundError) as error:
            raise Damaged(
                f"{damage}, but there is no sound checkpoint; overwrite=True trains the run anew"
            ) from error
    else:
        state = checkpoints.load_last(path)
    if state is None:  # then there is nothing to lose
        print(f"{damage}; the run starts from its beginning")
        (path / CONFIG).unlink(missing_ok=True)
    else:
        print(f"{damage}; the run goes on from its checkpoint")
        (path / RESULT).unlink(missing_ok=True)
        write_json(path / CONFIG, state["description"])
    return finished


def _damage(path: Path) -> str | None:
    """What is wrong with the files of a run, the first that is found; of an unfinished one, its config."""
    try:
        if any((path / name).exists() for name in FILES):
            saved_config(path)
        if (path / RESULT).exists():
            listed = _listed_sums(path)
            for name in (CONFIG, METRICS, *EVALUATION, RESULT):
                # features need not be kept
                if (path / name).exists() or (name in listed and name != FEATURES):
                    read_finished(path / name)
    except (Damaged, FileNotFoundError) as error:
        return str(error).removesuffix(f"; {MEND}")
    return None


def prepare_folder(config: RunConfig, mended: bool = False) -> bool:
    """Whether there is a run to go on with; else the folder is ready for a new one.

    What lies there is removed if it is to be overwritten, or was cut off and is not to be resumed, or has
    lost its config. A finished run that was `mended` goes on.
    """
    path = config.run_path
    goes_on = (path / CONFIG).exists() and not config.overwrite and (config.resume or mended)
    if not goes_on:
        for name in FILES:
            (path / name).unlink(missing_ok=True)
    return goes_on


@contextmanager
def sole_writer(config: RunConfig) -> Iterator[None]:
    """Hold the run's folder, which is made where there is none, against every other process.

    Raises RuntimeError that says which process holds it, OSError where the folder cannot be written to.
    """
    path = config.run_path
    files.make_folder(path)
    lock = files.try_lock(path / LOCK)
    if lock is None:
        try:
            holder = (path / WRITER).read_text(errors="replace")
        except OSError:
            holder = "another process"
        raise RuntimeError(f"{path}: {holder} is training this run; wait for it, or give another run_name")
    try:
        files.remove_leftovers(path)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        files.write(path / WRITER, f"process {os.getpid()} on {platform.node()} (since {since})")
        yield
    finally:
        (path / WRITER).unlink(missing_ok=True)
        lock.release()


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Finish a run whose other files are written: their checksums, and last its result."""
    text = _json(result)
    sums = {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in (CONFIG, METRICS, *EVALUATION)
        if (path / name).exists()
    }
    sums[RESULT] = hashlib.sha256(text.encode()).hexdigest()
    files.write(path / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    files.write(path / RESULT, text)
    (path / checkpoints.PREVIOUS).unlink(missing_ok=True)


def read_finished(path: Path) -> bytes:
    """The content of a finished run's file.

    Raises FileNotFoundError where it is missing, Damaged where it does not fit the run's checksums.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: is missing; {MEND}") from None
    if hashlib.sha256(content).hexdigest() != _listed_sums(path.parent).get(path.name):
        raise Damaged(f"{path}: is damaged, it does not fit {SUMS}; {MEND}")
    return content


def _listed_sums(path: Path) -> dict[str, str]:
    """The checksums of a finished run's files."""
    try:
        lines = (path / SUMS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path / SUMS}: is missing; {MEND}") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def write_json(path: Path, content: dict) -> None:
    files.write(path, _json(content))


def _json(content: dict) -> str:
    return json.dumps(content, indent=2) + "\n"


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """What the file holds. Raises Damaged that names it where that is no JSON object."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: is damaged ({error})") from error
    if not isinstance(parsed, dict):
        raise Damaged(f"{path}: is damaged (no JSON object)")
    return parsed


def write_table(config: RunConfig, name: str, table: pd.DataFrame) -> None:
    """Write a table of a run, its first column saying what data its numbers are of."""
    labelled = pd.DataFrame({"data": config.data_label}, table.index).join(table)
    files.write(config.run_path / name, labelled.to_csv(index=False))


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write(path, content.getbuffer())


def _read_csv(path: Path) -> pd.DataFrame:
    content = read_finished(path)
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError as error:  # EmptyDataError and ParserError are ValueErrors
        raise Damaged(f"{path}: is damaged ({error})") from error
    if "data" not in table:
        raise ValueError(f"{path}: was written by another version; overwrite=True trains the run anew")
    return table
