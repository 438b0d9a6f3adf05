"""The narration: everything in its order, on every kind of model, and every number of it true."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path

import pytest
import torch

import picolab
from picolab.errors import BadInput
from picolab.measure.parameters import count_parameters
from picolab.parts.cross_entropy import IGNORE
from picolab.report.narration.card import card
from picolab.report.narration.narrate import narrate
from picolab.report.narration.passes import watch
from picolab.report.narration.scale import cost_of, ladder
from picolab.report.narration.scene import Scene
from picolab.report.narration.sources import line_of, sources_of
from picolab.report.narration.step import KINDS
from picolab.runs.settings import OptimizerSettings
from picolab.text.bytes import byte_tokenizer
from picolab.trace.record import record
from picolab.train.optimizers import adamw
from picolab.zoo import PRESETS, build, create

SOURCE = Path(picolab.__file__).parents[1]
SMALL = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 5, "n_heads": 4, "d_ff": 24}
FAMILIES = {
    "gpt2": SMALL,
    "llama": SMALL | {"n_kv_heads": 2},
    "mistral": SMALL | {"n_kv_heads": 2, "window": 3},
    "qwen2": SMALL | {"n_kv_heads": 2},
    "qwen3": SMALL | {"n_kv_heads": 2},
    "gpt_oss": SMALL | {"window": 3},
    "nanochat": SMALL,
    "linear": SMALL | {"gated": True},
    "lstm": {"vocab_size": 257, "d_model": 12, "hidden": 16, "n_layers": 2},
    "kgram": {"vocab_size": 257, "k": 3, "d_embed": 8, "hidden": 16},
}
DECODERS = [name for name in FAMILIES if name not in ("lstm", "kgram")]
TEXT = "the cat sat"


@cache
def traced(architecture, iterations=2):
    """A model with weights that are no defaults, its pass, and the narration."""
    torch.manual_seed(5)
    model = build(architecture, FAMILIES[architecture]).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    words = byte_tokenizer()
    ids = [words.eot, *words.encode(TEXT)]
    watched = watch(model, ids, make_optimizer=lambda m: adamw(m, OptimizerSettings()), iterations=iterations)
    told = narrate(model, watched.recording, taken=watched.taken, tokenizer=words)
    return model, watched, told


def steps_of(told):
    return [step for section in told.sections for step in section.steps]


def step_at(told, site):
    return next(step for step in steps_of(told) if step.site == site)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_is_told_in_the_readers_order(architecture):
    _, _, told = traced(architecture)
    places = [KINDS.index(section.kind) for section in told.sections]
    assert places == sorted(places)
    middle = {"lstm": "recurrence", "kgram": "hidden"}.get(architecture, "block")
    wanted = {"card", "tokens", "embedding", "positions", middle, "head", "loss", "backward", "clipping", "optimizer"}
    assert {section.kind for section in told.sections} == wanted
    for section in told.sections:
        assert section.says.endswith(".") and section.title
        for step in section.steps:
            assert step.says[0].isupper() or not step.says[0].isalpha()
            assert step.says.endswith(".") and "nan" not in step.says.lower().split()


@pytest.mark.parametrize("architecture", DECODERS)
def test_every_recorded_site_of_a_block_told_in_full_is_a_step(architecture):
    _, watched, told = traced(architecture)
    recorded = {s for s in watched.recording.sites if s.startswith("blocks.0.")}
    assert {step.site for step in told.section("block", 0).steps if step.site} == recorded


def test_the_first_three_blocks_and_the_last_are_told_in_full_and_others_in_a_line():
    _, _, told = traced("llama")
    full = {section.layer: bool(section.steps) for section in told.sections if section.kind == "block"}
    assert full == {0: True, 1: True, 2: True, 3: False, 4: True}


def test_blocks_may_be_chosen_and_a_token_followed_from_either_end():
    model, watched, _ = traced("llama")
    told = narrate(model, watched.recording, layers=[-2], followed=-3, tokenizer=byte_tokenizer())
    assert [s.layer for s in told.sections if s.kind == "block" and s.steps] == [3]
    assert told.followed == len(TEXT) - 2
    assert "token 9 `s`" in step_at(told, "embed").values[0].where
    with pytest.raises(BadInput, match="no block 5 in 5"):
        narrate(model, watched.recording, layers=[5])
    with pytest.raises(BadInput, match="no token 12 in a text of 12"):
        narrate(model, watched.recording, followed=12)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_statistics_and_values_are_those_of_the_recording(architecture):
    _, watched, told = traced(architecture)
    for step in steps_of(told):
        if step.site is None or step.statistics is None or step.site == "loss":
            continue
        value = watched.recording[step.site].detach()
        assert step.shape == tuple(value.shape)
        s = step.statistics
        found = (s.mean, s.std, s.minimum, s.maximum)
        whole = value
        if step.site.endswith(("scores", "probs")):  # of pairs, those that may see each other
            whole = value[..., torch.ones(value.shape[-2:], dtype=torch.bool).tril()]
        wanted = (whole.mean(), whole.std(unbiased=False), whole.min(), whole.max())
        assert found == pytest.approx(tuple(float(w) for w in wanted), rel=1e-4, abs=1e-6)
        row = value[0]
        row = row[:, -1] if step.site.endswith(("scores", "probs")) else row[-1]
        row = row[0] if row.ndim == 2 else row
        assert step.values[0].numbers == pytest.approx(row[: len(step.values[0].numbers)].tolist())


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_site_has_the_line_that_computed_it(architecture):
    model = traced(architecture)[0]
    for site, source in sources_of(model).items():
        line = (SOURCE / source.file).read_text(encoding="utf-8").splitlines()[source.line - 1]
        name = site.rpartition(".")[2]
        assert line.strip() == source.code
        if f'"{name}"' in line:  # computed where it is handed over: not a bare name
            assert f'"{name}", {name})' not in line
        else:
            assert name in line.partition(" =")[0] or name == "state"


def test_a_bare_name_is_traced_back_to_the_line_that_gave_it_its_value():
    model = traced("gpt2")[0]
    sources = sources_of(model)
    assert sources["blocks.0.attention.scores"].code.startswith("scores: Scores = ")
    assert sources["blocks.0.attention.q"].code.startswith("q, k, v = (split_heads")
    assert "self.lstm(" in sources_of(traced("lstm")[0])["blocks.0.state"].code
    assert sources["embed"].file == "picolab/models/gpt2.py"


def test_linear_attention_is_told_with_its_gates_maps_and_implied_weights():
    model, watched, told = traced("linear")
    titles = [step.title for step in told.section("block", 0).steps]
    at = titles.index("Values")
    wanted = ["Gates", "Queries, mapped", "Keys, mapped", "Implied weights", "Mixed values", "Output projection"]
    assert titles[at + 1 : at + 7] == wanted and "Softmax" not in titles and "Causal mask" not in titles
    kept = watched.recording["blocks.0.attention.gates"].detach()[0].mean(0).exp()
    long = int(kept.argmax())
    assert f"head {long} keeps {100 * float(kept[long]):.1f} %" in step_at(told, "blocks.0.attention.gates").says
    below = float((watched.recording["blocks.0.attention.q_map"] < 1).float().mean())
    assert f"{100 * below:.0f} % of them were below 0" in step_at(told, "blocks.0.attention.q_map").says
    assert sources_of(model)["blocks.0.attention.probs"].code.startswith("probs = implied_weights(")
    # A token costs the same however many were read: the state is as wide as 5 keys, of 16 lanes a layer.
    costs = {time: cost_of(model, time) for time in (4, 64)}
    matrices = 5 * (4 * 16 * 16 + 16 * 4 + 2 * 16 * 24) + 257 * 16
    assert {cost.flops_forward for cost in costs.values()} == {2 * matrices + 4 * 5 * 16 * 5}
    assert costs[4].cache_bytes is None


def test_a_line_nobody_wrote_is_not_invented():
    with pytest.raises(LookupError):
        line_of(count_parameters, "no such letters")


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "ngram"])
def test_parameter_shares_add_up_to_a_hundred_percent_for_every_preset(preset):
    with torch.device("meta"):
        model = create(preset, vocab_size=257)
    assert sum(round(10 * share) for share in count_parameters(model).percentages().values()) == 1000
    scene = Scene(model=model, recording=traced("lstm")[1].recording, words=traced("lstm")[2].words, followed=0)
    table = next(step for step in card(scene, model).steps if step.title == "Parameters").tables[0]
    assert table.rows[-1][2] == "100.0 %"
    counts = [int(row[1].replace(",", "")) for row in table.rows]
    assert sum(counts[:-1]) == counts[-1] == sum(p.numel() for p in model.parameters())


def test_nanochats_ladder_ends_at_561_million():
    with torch.device("meta"):
        model = create("nanochat-d4", vocab_size=257)
    rungs = ladder(model, time=16)
    assert [(rung.depth, rung.d_model) for rung in rungs] == [(d, 64 * d) for d in (4, 8, 12, 16, 20)]
    assert rungs[-1].cost.parameters == 2 * 65536 * 1280 + 20 * 12 * 1280**2 == 560_988_160


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "nanochat", "kgram"])
def test_flops_are_those_that_torch_counts(architecture):
    from torch.utils.flop_counter import FlopCounterMode

    model, time = traced(architecture)[0], 12
    with record(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, time, dtype=torch.int64))
    # Written out, attention multiplies hidden pairs too: time keys for every query, not (time + 1) / 2.
    squares = 4.0 * getattr(model.config, "n_layers", 0) * getattr(model.config, "d_model", 0)
    hidden = squares * (time - (time + 1) / 2) if architecture != "kgram" else 0
    assert cost_of(model, time).flops_forward + hidden == pytest.approx(counter.get_total_flops() / time, rel=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "nanochat"])
def test_rotation_is_shown_to_depend_on_distance_only(architecture):
    model, watched, told = traced(architecture)
    shown = next(step for step in steps_of(told) if step.title == "Only the distance counts")
    *same, other = shown.tables[0].rows
    assert len({row[2] for row in same}) == 1 and len({row[0] for row in same}) == len(same) >= 3
    scores = [float(row[3]) for row in same]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=2e-3)
    assert abs(float(other[3]) - scores[0]) > 0.01
    r = watched.recording
    q, k = r["blocks.0.attention.q_rope"][0, -1, 0], r["blocks.0.attention.k_rope"][0, -3, 0]
    assert scores[0] == pytest.approx(float(q @ k), abs=1e-3)
    turned = next(step for step in steps_of(told) if step.title.startswith("A query of block 0"))
    for row in turned.tables[0].rows:
        assert float(row[3]) == pytest.approx(float(row[4]), abs=0.02)


def test_a_narration_without_a_rotation_does_not_speak_of_one():
    for architecture, word in (("gpt2", "learned vector"), ("lstm", "state carries"), ("kgram", "slot")):
        assert word in traced(architecture)[2].section("positions").says


def test_the_three_most_attended_tokens_are_named():
    _, watched, told = traced("llama")
    probs = watched.recording["blocks.0.attention.probs"][0, :, -1].detach()
    table = step_at(told, "blocks.0.attention.probs").tables[0]
    pieces = [word.piece for word in told.words]
    for head, row in enumerate(table.rows):
        weights, keys = probs[head].topk(3)
        named = [f"{pieces[k]} ({k}) {w:.2f}" for w, k in zip(weights.tolist(), keys.tolist(), strict=True)]
        assert row[1] == "  ".join(named)
        assert float(row[2]) == pytest.approx(-float(torch.xlogy(probs[head], probs[head]).sum()), abs=0.006)


def test_the_softcap_says_how_much_it_bent():
    _, watched, told = traced("nanochat")
    model = traced("nanochat")[0]
    raw = watched.recording["final_norm"] @ model.head.weight.detach().T
    bent = (raw - watched.recording["logits"]).abs()
    at = int(bent.argmax())
    says = next(step for step in steps_of(told) if step.title == "Softcap").says
    before, after = says.removeprefix("It bent ").split(" at most")[0].split(" to ")
    assert float(before) == pytest.approx(float(raw.flatten()[at]), rel=0.01)
    assert float(after) == pytest.approx(float(watched.recording["logits"].flatten()[at]), rel=0.01)


def test_the_loss_names_the_three_tokens_that_surprised_most():
    _, watched, told = traced("llama")
    losses = watched.taken.losses[0, :-1]
    worst = [str(t) for t in torch.argsort(losses, descending=True)[:3].tolist()]
    step = step_at(told, "loss")
    assert [row[0] for row in step.tables[0].rows] == worst
    assert len(step.tables[1].rows) == len(TEXT)
    assert "worse than knowing nothing" in told.section("loss").says  # weights of no model at all


def test_what_was_not_recorded_is_not_told():
    model = traced("llama")[0]
    with record(model, ["blocks.*.attention.probs"]) as recording, torch.no_grad():
        model(torch.tensor([[1, 2, 3]]))
    told = narrate(model, recording)
    assert {step.site for step in steps_of(told) if step.site} == {f"blocks.{i}.attention.probs" for i in (0, 1, 2, 4)}
    assert [section.kind for section in told.sections].count("block") == 5


def test_names_of_no_known_place_are_passed_over():
    _, watched, _ = traced("lstm")
    model = traced("lstm")[0]
    odd = type(watched.recording)("my-engine 1", tokens=watched.recording.tokens)
    first = watched.recording.entry("embed")
    odd.entries = [first, type(first)("Kcur-3", "prefill", 0, first.positions, None, first.value)]
    told = narrate(model, odd)
    assert {step.site for step in steps_of(told) if step.site} == {"embed"}
    assert step_at(told, "embed").source is None  # another engine's lines are not ours


def test_a_long_text_is_watched_by_rows_and_still_names_three_tokens(monkeypatch):
    model, watched, told = traced("llama")
    monkeypatch.setattr("picolab.report.narration.passes.MOST_ATTENTION", 0)
    ids = [word.id for word in told.words]
    long = watch(model, ids, make_optimizer=lambda m: adamw(m, OptimizerSettings()))
    assert all(entry.kept is None for entry in long.recording.entries if entry.site.endswith("attention.probs"))
    assert long.recording.entry("blocks.0.resid_mid").kept is not None
    retold = narrate(model, long.recording, taken=long.taken, tokenizer=byte_tokenizer(), rows=long.rows)
    site = "blocks.2.attention.probs"
    assert step_at(retold, site).tables == step_at(told, site).tables
    assert step_at(retold, site).says == step_at(told, site).says


def test_a_very_long_text_is_told_from_statistics(monkeypatch):
    model, _, told = traced("nanochat")
    monkeypatch.setattr("picolab.report.narration.passes.MOST_ATTENTION", 0)
    monkeypatch.setattr("picolab.report.narration.passes.MOST_ELSE", 0)
    ids = [word.id for word in told.words]
    long = watch(model, ids, make_optimizer=lambda m: adamw(m, OptimizerSettings()))
    assert all(entry.kept is None for entry in long.recording.entries if entry.site != "loss")
    retold = narrate(model, long.recording, taken=long.taken, rows=long.rows)
    assert {s.kind for s in retold.sections} == {s.kind for s in told.sections}
    norm = step_at(retold, "blocks.1.mlp_norm")
    assert norm.statistics.mean == pytest.approx(step_at(told, "blocks.1.mlp_norm").statistics.mean, abs=1e-6)


def test_the_model_is_as_it_was_after_it_was_traced():
    torch.manual_seed(0)
    model = build("gpt2", SMALL).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    watched = watch(model, [1, 2, 3, 4], make_optimizer=lambda m: adamw(m, OptimizerSettings(lr=0.1)), iterations=3)
    assert watched.taken.mean_losses[-1] < watched.taken.mean_losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_step_that_is_told_is_the_step_training_takes():
    model, watched, _ = traced("qwen2")
    tokens, targets = watched.recording.tokens, watched.taken.targets
    twin = copy.deepcopy(model)
    settings = OptimizerSettings()
    optimizer = adamw(twin, settings)
    (twin.losses(tokens, targets).sum() / (targets != IGNORE).sum()).backward()
    norms = {name: float(p.grad.norm()) for name, p in twin.named_parameters()}
    total = float(torch.nn.utils.clip_grad_norm_(twin.parameters(), settings.clip))
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    optimizer.step()
    taken = watched.taken
    assert taken.gradient_norm == pytest.approx(total, rel=1e-4)
    for told in taken.parameters:
        moved = float((twin.get_parameter(told.name).detach() - before[told.name]).norm())
        assert told.gradient_norm == pytest.approx(norms[told.name], rel=1e-3), told.name
        assert told.update_norm == pytest.approx(moved, rel=1e-2), told.name
        assert told.ratio == pytest.approx(moved / float(before[told.name].norm()), rel=1e-2)


def test_a_single_token_has_no_way_back():
    watched = watch(traced("lstm")[0], [7], make_optimizer=lambda m: adamw(m, OptimizerSettings()))
    assert watched.taken is None
    told = narrate(traced("lstm")[0], watched.recording)
    assert [section.kind for section in told.sections][-1] == "head"


def test_uniform_is_ln_of_the_vocabulary():
    model = create("lstm", vocab_size=257, seed=1).eval()
    watched = watch(model, [1, 2, 3, 4, 5], make_optimizer=lambda m: adamw(m, OptimizerSettings()))
    told = narrate(model, watched.recording, taken=watched.taken)
    assert "as much as knowing nothing" in told.section("loss").says
    assert f"{math.log(257):.2f}" in told.section("loss").says
    assert any("looks untrained" in note for note in told.notes)
