"""Every decoder preset, two blocks deep, recorded by three engines into bundles: the table of sites, none apart by more than 1e-4.

`pytest -s` prints it. GPT-2 in llama.cpp is the exception: its GELU is a table of half precision (engines/test_llama_cpp.py shows
that nothing else differs), so `mlp.act` and what follows from it may be 2e-3 apart.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from picolab.models.contract import LanguageModel
from picolab.trace.bundle import read_bundle, write_bundle
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.engines.llama_cpp import LlamaCpp
from picolab.trace.engines.transformers import Transformers
from picolab.trace.recording import Recording
from picolab.weights.checkpoint import save_model
from picolab.weights.gguf.write import write_gguf
from picolab.zoo import ARCHITECTURES, PRESETS, create

ELSEWHERE = [
    name
    for name, preset in PRESETS.items()
    if ARCHITECTURES[preset.architecture].model.hugging_face or ARCHITECTURES[preset.architecture].model.gguf
]
TOKENS = [7, 3, 60, 3, 3, 41, 0, 22, 9, 63, 1, 17]


def shallow(name: str) -> LanguageModel:
    """The preset with two blocks and few words; every weight random, so that no projection is zero and no bias neutral."""
    model = create(name, vocab_size=64, n_layers=2).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            centre, scale = (1.0, 0.3) if parameter.ndim == 1 else (0.0, parameter.shape[-1] ** -0.5)
            parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=generator))
    return model


def bundle_of(engine: Engine, folder: Path) -> Recording:
    return read_bundle(write_bundle(record_engine(engine, TOKENS, prefill=9), folder))


def apart(ours: Recording, theirs: Recording) -> dict[str, float]:
    """The largest difference at each site that both have, over all passes, relative to the largest number."""
    worst: dict[str, float] = {}
    here = {(e.site, e.phase, e.step): e.value for e in ours.entries}
    for entry in theirs.entries:
        mine = here.get((entry.site, entry.phase, entry.step))
        if mine is not None:
            gap = (mine - entry.value).abs().max() / mine.abs().max()
            worst[entry.site] = max(worst.get(entry.site, 0.0), gap.item())
    return worst


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_bundles_of_three_engines_agree_site_by_site(name, tmp_path):
    model = shallow(name)
    ours = bundle_of(Here(model), tmp_path / "here")
    tables = {}
    if model.hugging_face:
        save_model(model, None, tmp_path / "model")
        tables["transformers"] = apart(ours, bundle_of(Transformers.open(tmp_path / "model"), tmp_path / "there"))
    if model.gguf:
        write_gguf(model, None, tmp_path / "model.gguf")
        tables["llama.cpp"] = apart(ours, bundle_of(LlamaCpp.open(tmp_path / "model.gguf"), tmp_path / "cpp"))
    sites = dict.fromkeys(entry.site for entry in ours.entries)
    print(f"\n{name:32}" + "".join(f"{engine:>14}" for engine in tables))
    for site in sites:
        cells = (f"{table[site]:>14.1e}" if site in table else f"{'-':>14}" for table in tables.values())
        print(f"{site:32}" + "".join(cells))
    for engine, table in tables.items():
        rough = engine == "llama.cpp" and model.architecture == "gpt2"
        assert {"embed", "blocks.1.resid_post", "logits"} <= table.keys() and len(table) > 30
        assert max(table.values()) < (2e-3 if rough else 1e-4), (engine, max(table, key=table.get))
