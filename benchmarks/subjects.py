"""What is measured side by side: networks of this study and of other libraries, each in a precision."""

import warnings
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

from torch import nn

from benchmarks import peers
from benchmarks.parameters import Benchmark
from benchmarks.peers import PEERS

CLASSES = 10
# Name of a subject -> the function that builds its network, and the distribution that gives its version.
OWN = {"tcl_lib": (peers.ours, "tcl-lib"), "ReLU": (peers.relu, "torch")}


class Subject(NamedTuple):
    """A network, as its library's documentation writes it, in a precision."""

    name: str
    version: str
    precision: str
    build: Callable[[int], nn.Module]  # of T
    channels_last: bool


def subjects(benchmark: Benchmark) -> list[Subject]:
    """Return this study and the ReLU limit in every precision, and the libraries that are installed.

    A library runs as in its documentation: in float32 and PyTorch's default layout. SpikingJelly also runs
    under bf16 autocast. A warning names each library that is left out because it is not installed. For a
    backbone other than convnet, SpikingJelly's neurons run in the network of this study.
    """
    own = [_own(name, precision, benchmark) for precision in benchmark.precisions for name in OWN]
    return own + [subject for library in benchmark.libraries for subject in _library(library, benchmark)]


def _own(name: str, precision: str, benchmark: Benchmark) -> Subject:
    build, distribution = OWN[name]

    def network(steps: int) -> nn.Module:
        return build(benchmark.config(steps), benchmark.image_shape, CLASSES)

    return Subject(name, metadata.version(distribution), precision, network, channels_last=True)


def _library(library: str, benchmark: Benchmark) -> list[Subject]:
    """Return a library's subjects, one for each precision; none where it cannot be measured."""
    try:
        version = metadata.version(library)
    except metadata.PackageNotFoundError:
        warnings.warn(f"{library} is left out: it is not installed (pip install -e benchmarks)", stacklevel=3)
        return []
    if benchmark.backbone != "convnet" and library != "spikingjelly":
        warnings.warn(f"{library} is left out: it is only measured with backbone='convnet'", stacklevel=3)
        return []

    def network(steps: int) -> nn.Module:
        if benchmark.backbone == "convnet":
            return PEERS[library](steps, benchmark.image_shape[0], CLASSES)
        return peers.spikingjelly_neurons(benchmark.config(steps), benchmark.image_shape, CLASSES)

    half = library == "spikingjelly" and "bf16-mixed" in benchmark.precisions
    precisions = ["32-true", "bf16-mixed"] if half else ["32-true"]
    return [Subject(library, version, precision, network, False) for precision in precisions]
