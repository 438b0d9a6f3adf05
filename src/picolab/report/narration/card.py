"""The model card: settings, where the parameters are, what a token costs, how all that grows with depth."""

from __future__ import annotations

from picolab.measure.parameters import Parameters, count_parameters
from picolab.models.contract import LanguageModel
from picolab.report.narration.scale import LANES_A_LAYER, Cost, Rung, cost_of, ladder
from picolab.report.narration.scene import Scene
from picolab.report.narration.sources import line_of
from picolab.report.narration.step import Section, Step, Table
from picolab.report.narration.wording import amount, figure, listed, plural, size
from picolab.zoo import settings_of


def card(scene: Scene, model: LanguageModel) -> Section:
    """What kind of model this is, in numbers."""
    parameters = count_parameters(model)
    cost = cost_of(model, scene.time)
    rungs = ladder(model, scene.time)
    steps = [_settings(model), _parameters(parameters, model), _cost(scene, cost)]
    if rungs:
        steps.append(_depth(model, rungs))
    largest = max(parameters.by_part, key=lambda part: parameters.by_part[part].count)
    says = (
        f"A {model.architecture} of {plural(getattr(model.config, 'n_layers', 0), 'block')}"
        if hasattr(model.config, "n_layers")
        else f"A {model.architecture}"
    )
    says += (
        f", {amount(parameters.total)} parameters, of which {parameters.percentages()[largest]:.1f} % are in"
        f" `{largest}`; {amount(cost.flops_forward)}FLOPs a token forward."
    )
    return Section(kind="card", title="The model", says=says, steps=tuple(steps))


def _settings(model: LanguageModel) -> Step:
    config = settings_of(model)
    rows = [(name, _shown(value)) for name, value in config.items()]
    facts = []
    if "n_heads" in config:
        queries, keys = config["n_heads"], config.get("n_kv_heads", config["n_heads"])
        facts.append(
            f"{queries} query heads, {queries // keys} to a key and value head"
            if keys != queries
            else plural(queries, "head") + ", each with keys and values of its own"
        )
    if "d_ff" in config and "d_model" in config:
        facts.append(f"a feed-forward layer {figure(config['d_ff'] / config['d_model'])} times as wide as the stream")
    if "context_length" in config:
        facts.append(f"{config['context_length']:,} tokens of context")
    if "k" in config:
        facts.append(f"the newest {config['k']} tokens at a time")
    return Step(
        title="Settings",
        says=f"It has {listed(facts)}." if facts else f"It has {plural(len(rows), 'setting')}.",
        tables=(Table(columns=("setting", "value"), rows=tuple(rows)),),
    )


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _parameters(parameters: Parameters, model: LanguageModel) -> Step:
    shares = parameters.percentages()
    rows = [(name, f"{part.count:,}", f"{shares[name]:.1f} %") for name, part in parameters.by_part.items()]
    rows.append(("together", f"{parameters.total:,}", f"{sum(shares.values()):.1f} %"))
    tied = bool(getattr(model.config, "tied", False))
    facts = [f"{parameters.total:,} numbers"]
    if parameters.frozen:
        facts.append(f"{parameters.frozen:,} of them frozen")
    says = " and ".join(facts) + (
        "; the head reads the embedding's matrix, which is counted once." if tied else "; no matrix is shared."
    )
    return Step(
        title="Parameters",
        says=says,
        source=line_of(count_parameters, "counts[part_of(name)]"),
        tables=(Table(columns=("part", "numbers", "share"), rows=tuple(rows), right=("numbers", "share")),),
        level="brief",
    )


def _cost(scene: Scene, cost: Cost) -> Step:
    per_parameter = cost.flops_forward / max(cost.parameters, 1)
    rows = [
        ("FLOPs forward, a token", amount(cost.flops_forward)),
        ("FLOPs forward and backward, a token", amount(cost.flops_training)),
        ("weights", size(cost.weight_bytes)),
        ("weights, gradients, AdamW's means", size(cost.training_bytes)),
    ]
    if cost.cache_bytes is not None:
        rows.insert(2, ("cache of keys and values, a token", size(cost.cache_bytes)))
    says = (
        f"Reading one of these {plural(scene.time, 'token')} takes {amount(cost.flops_forward)}FLOPs,"
        f" {figure(per_parameter)} a parameter"
        + (
            " (an embedding that is only looked up costs none)"
            if per_parameter < 1.9
            else " (attention over earlier tokens comes on top of two a parameter)"
            if per_parameter > 2.05
            else ""
        )
        + (
            f"; remembering it takes {size(cost.cache_bytes)}."
            if cost.cache_bytes is not None
            else "; what is remembered does not grow."
        )
    )
    return Step(
        title="Cost of a token",
        says=says,
        formula="FLOPs = 2 x matrix numbers + 4 x layers x attention width x tokens seen; training x 3",
        source=line_of(cost_of, "flops ="),
        tables=(Table(columns=("what", "amount"), rows=tuple(rows), right=("amount",)),),
    )


def _depth(model: LanguageModel, rungs: tuple[Rung, ...]) -> Step:
    first, last = rungs[0], rungs[-1]
    rows = [
        (
            f"d{rung.depth}",
            f"{rung.d_model:,}",
            str(rung.heads),
            amount(rung.cost.parameters),
            amount(rung.cost.flops_forward),
            size(rung.cost.cache_bytes or 0),
            size(rung.cost.training_bytes),
        )
        for rung in rungs
    ]
    growth = last.cost.parameters / first.cost.parameters
    deeper = last.depth / first.depth
    vocabulary = model.config.vocab_size
    says = (
        f"{figure(deeper)} times as deep has {figure(growth)} times the parameters:"
        f" d{last.depth} has {amount(last.cost.parameters)}."
    )
    if growth < deeper**2.5:
        says += " The embedding, which grows with the width only, holds most of the shallow ones."
    if model.architecture == "nanochat" and vocabulary != 65536:
        says += f" The ladder has nanochat's published vocabulary of 65,536; this model has {vocabulary:,}."
    return Step(
        title="The same at other depths",
        says=says,
        formula=f"d_model = {LANES_A_LAYER} x depth",
        source=line_of(ladder, "build("),
        tables=(
            Table(
                columns=("depth", "d_model", "heads", "parameters", "FLOPs", "cache", "training"),
                rows=tuple(rows),
                right=("d_model", "heads", "parameters", "FLOPs", "cache", "training"),
            ),
        ),
    )
