"""`python -m tcl_lib.train -f recipe.yaml -p seed 3` trains one run, without a notebook.

This is for torchrun and srun, which start several processes of one command; the parameters are given as to
papermill. The file is only run, never imported: `tcl_lib.train` is the function.
"""

import argparse
import logging
import os
import sys
from typing import Any

import yaml
from papermill.iorw import read_yaml_file

import tcl_lib
from tcl_lib.utils import notebooks

if __name__ not in ("__main__", "__mp_main__"):
    raise ImportError("python -m tcl_lib.train is a command; the function is tcl_lib.train(config)")


def value(text: str) -> Any:
    """Return what `-p` of papermill makes of a text: a number, True, False, None, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"True": True, "False": False, "None": None}.get(text, text)


def parameters(arguments: list[str]) -> dict[str, Any]:
    """Return the parameters of a command line; those of -p replace those of -y, and these those of -f."""
    parser = argparse.ArgumentParser(prog="python -m tcl_lib.train", description="Train one run.")
    add = parser.add_argument
    pair = {"action": "append", "nargs": 2, "metavar": ("NAME", "VALUE"), "default": []}
    add("-f", "--parameters_file", action="append", default=[], metavar="FILE", help="YAML")
    add("-y", "--parameters_yaml", action="append", default=[], metavar="YAML", help="as 'views: 2'")
    add("-p", "--parameters", **pair, help="a number, True, False, None, or text")
    add("-r", "--parameters_raw", **pair, help="text, whatever it looks like")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    given = [(file, read_yaml_file, file) for file in options.parameters_file]
    given += [(f"-y {text!r}", yaml.safe_load, text) for text in options.parameters_yaml]
    for name, read, source in given:
        try:
            content = read(source)
        except yaml.YAMLError as error:
            raise ValueError(f"{name}: {error}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{name}: must hold parameters, a line each as 'name: value'")
        found |= content
    found |= {name: value(text) for name, text in options.parameters}
    return found | dict(options.parameters_raw)


def main(arguments: list[str]) -> None:
    notebooks.show_messages()
    run = tcl_lib.train(tcl_lib.RunConfig(**parameters(arguments)))
    logging.getLogger("tcl_lib").info("%s", run)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        # each process ends with the error; the first says it
        rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
        sys.exit(f"error: {' '.join(str(error).split())}" if rank == "0" else 1)
