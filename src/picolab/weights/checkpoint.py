"""A model on disk: model.safetensors, config.json, the tokenizer's files. Never a pickle.

save_model(model, tokenizer, folder)        load_model(folder) -> model        load_tokenizer(folder) -> tokenizer
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from picolab.errors import BadCheckpoint
from picolab.models.contract import LanguageModel
from picolab.parts.quantised import refuse_quantised
from picolab.text.tokenizer import Tokenizer
from picolab.weights.huggingface import build_from, config_of, fill, tensors_of
from picolab.weights.kept import Form
from picolab.weights.shards import WEIGHTS, read_tensors

CONFIG, GENERATION = "config.json", "generation_config.json"


def save_model(model: LanguageModel, tokenizer: Tokenizer | None, folder: Path) -> None:
    """Write everything needed to run the model again into an existing or new folder."""
    refuse_quantised(model, "written")
    folder.mkdir(parents=True, exist_ok=True)
    special: dict[str, Any] = {}
    ends: dict[str, Any] = {}
    if tokenizer is not None:
        special["bos_token_id"] = tokenizer.eot if tokenizer.bos is None else tokenizer.bos
        special["eos_token_id"] = tokenizer.eot
        special["pad_token_id"] = tokenizer.eot if tokenizer.pad is None else tokenizer.pad
        ends = {"eos_token_id": sorted(tokenizer.ends)} if len(tokenizer.ends) > 1 else {}
        tokenizer.save(folder)
    _write_json(folder / CONFIG, {**config_of(model), **special})
    _write_json(folder / GENERATION, {**special, **ends})
    save_file(tensors_of(model), folder / WEIGHTS, metadata={"format": "pt"})


def load_model(folder: Path, *, dtype: Form = "float32") -> LanguageModel:
    """The model of a checkpoint folder, in evaluation mode, every parameter filled exactly once and kept as `dtype` says."""
    config = read_config(folder)
    tensors, source = read_tensors(folder)
    model = build_from(config, tensors, source=str(folder / CONFIG))
    fill(model, tensors, source=str(source), dtype=dtype)
    return model.eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved beside the model."""
    return Tokenizer.load(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadCheckpoint(
            f"`{folder}` has no {CONFIG}", hint="a checkpoint or Hugging Face folder is meant"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise BadCheckpoint(f"`{path}` is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadCheckpoint(f"`{path}` holds a {type(config).__name__}, not settings")
    return config


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
