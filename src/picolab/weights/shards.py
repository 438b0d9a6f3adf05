"""Where are the tensors of a checkpoint folder? In one file or several; a pickle is opened only in the way that runs no code.

model.safetensors                       one file, mapped
model.safetensors.index.json            tensor -> file, for models in several
pytorch_model.bin (.index.json)         old: pickles, read by torch.load(weights_only=True)
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from picolab.errors import BadCheckpoint
from picolab.weights.safetensors_header import check_safetensors

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """The tensors of a folder by their names there, and the file that a complaint about them should name."""
    for name in (WEIGHTS, PICKLE):
        one, index = folder / name, folder / (name + INDEX)
        if one.exists():
            return _read(one), one
        if index.exists():
            return _read_all(folder, index), index
    raise BadCheckpoint(f"`{folder}` has no {WEIGHTS}", hint="a checkpoint folder is meant")


def _read_all(folder: Path, index: Path) -> dict[str, Tensor]:
    """Several files, each tensor from the one the index names; no file may hold what the index does not give it."""
    where = _where(index)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(where.values())):
        if Path(name).name != name:
            raise BadCheckpoint(f"`{index}` names `{name}`, outside its folder", hint="the file is torn or hostile")
        for tensor_name, tensor in _read(folder / name).items():
            if where.get(tensor_name) != name:
                raise BadCheckpoint(
                    f"`{folder / name}` holds `{tensor_name}`, which `{index.name}` does not place there"
                )
            tensors[tensor_name] = tensor
    missing = sorted(where.keys() - tensors.keys())
    if missing:
        raise BadCheckpoint(
            f"`{folder / where[missing[0]]}` does not hold `{missing[0]}`, which `{index.name}` places there"
        )
    return tensors


def _where(index: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(index.read_text(encoding="utf-8"))
        where = content["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadCheckpoint(f"`{index}` is no index of tensors: {error}", hint="the file is torn or foreign") from error
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise BadCheckpoint(f"`{index}` is no index of tensors", hint="its `weight_map` gives a file for every tensor")
    return where


def _read(path: Path) -> dict[str, Tensor]:
    return _unpickle(path) if path.suffix == ".bin" else _map(path)


def _map(path: Path) -> dict[str, Tensor]:
    check_safetensors(path)
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise BadCheckpoint(f"there is no `{path}`", hint="a part of the checkpoint is missing") from error
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise BadCheckpoint(f"`{path}` cannot be read: {error}", hint="the file is torn or foreign") from error


def _unpickle(path: Path) -> dict[str, Tensor]:
    if path.is_file() and not is_zipfile(path):
        raise BadCheckpoint(
            f"`{path}`, byte 0: it is no archive as torch.save writes since its version 1.6",
            hint="it is torn, or an older or foreign pickle: convert it to safetensors",
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # about versions of pickle, in files that are no pickle
            content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise BadCheckpoint(f"there is no `{path}`", hint="a part of the checkpoint is missing") from error
    except Exception as error:  # a torn stream makes the unpickler stumble in ways of its own
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".") if str(error) else type(error).__name__
        raise BadCheckpoint(
            f"`{path}` cannot be read: {reason}",
            hint="it is torn, or holds more than tensors: convert it to safetensors",
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise BadCheckpoint(f"`{path}` holds more than tensors", hint="the weights of a model alone are meant")
    return {str(name): tensor for name, tensor in content.items()}
