"""Arrays of another engine find their places by name, shape and content, or stay unpaired and say why; never a wrong place."""

import pytest
import torch

from picolab.diagnose.diff import diff
from picolab.trace.recording import Entry, Recording

from faulty_twins import FEW, TOKENS, causes, example, faulty, twin


def renamed(recorded, names, change=lambda site, value: value):
    """The same values under other names; those without one are left out."""
    made = Recording(engine="theirs", tokens=recorded.tokens)
    for entry in recorded.entries:
        name = names(entry.site)
        if name is not None:
            made.entries.append(
                Entry(name, entry.phase, entry.step, entry.positions, None, change(entry.site, entry.value))
            )
    return made


def anonymous(recorded, only=None):
    """Numbered buffers, without batch, heads before time."""
    numbers = {site: f"buf_{number}" for number, site in enumerate(recorded.sites) if only is None or site in only}

    def change(site, value):
        value = value[0]
        return value.transpose(0, 1) if value.ndim == 3 and not site.endswith(("scores", "probs")) else value

    return renamed(recorded, numbers.get, change), {name: site for site, name in numbers.items()}


HF = {"attention_norm": "input_layernorm", "attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj",
      "attention.v": "self_attn.v_proj", "attention.out": "self_attn.o_proj", "attention.mixed": "self_attn.o_proj.input",
      "mlp_norm": "post_attention_layernorm", "resid_mid": "post_attention_layernorm.input", "mlp.gate": "mlp.gate_proj",
      "mlp.up": "mlp.up_proj", "mlp.act": "mlp.down_proj.input", "mlp.down": "mlp.down_proj", "resid_post": ""}  # fmt: skip
ENDS = {"embed": "model.embed_tokens", "final_norm": "model.norm", "logits": "lm_head"}


def in_hugging_face(site):
    if site in ENDS:
        return ENDS[site]
    _, layer, place = site.split(".", 2)
    return f"model.layers.{layer}.{HF[place]}".rstrip(".") if place in HF else None


def flat(site, value):
    return value.flatten(2) if value.ndim == 4 and not site.endswith(("scores", "probs")) else value


LLAMA_CPP = {"attention_norm": "attn_norm", "attention.q_rope": "Qcur", "attention.k_rope": "Kcur", "attention.v": "Vcur",
             "attention.scores": "kq", "attention.probs": "kq_soft_max", "attention.mixed": "kqv_out", "resid_mid": "ffn_inp",
             "mlp_norm": "ffn_norm", "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.act": "ffn_swiglu", "mlp.down": "ffn_out",
             "resid_post": "l_out"}  # fmt: skip
GGML_ENDS = {"embed": "inp_embd", "final_norm": "result_norm", "logits": "result_output"}


def in_llama_cpp(site):
    if site in GGML_ENDS:
        return GGML_ENDS[site]
    _, layer, place = site.split(".", 2)
    return f"{LLAMA_CPP[place]}-{layer}" if place in LLAMA_CPP else None


def as_ggml(site, value):
    """No batch; scores without their scale, keys filled up to 32; queries and keys as adjacent pairs."""
    value = value[0]
    if site.endswith(("scores", "probs")):
        value = value * 10**0.5 if site.endswith("scores") else value
        value = torch.nn.functional.pad(value, (0, 32 - value.shape[-1]))
    if site.endswith("_rope"):
        low, high = value.chunk(2, dim=-1)
        value = torch.stack((low, high), dim=-1).flatten(-2)
    return value


@pytest.mark.parametrize(
    ("names", "change", "table"),
    [(in_hugging_face, flat, "Hugging Face's names"), (in_llama_cpp, as_ggml, "llama.cpp's names")],
    ids=["hugging face", "llama.cpp"],
)
@pytest.mark.parametrize(
    "fault", [None, ("activation", "error function"), ("residual-twice", "after attention the sum")], ids=str
)
def test_the_names_of_known_engines_are_read(names, change, table, fault):
    bends = [] if fault is None else [example("llama", *fault)]
    target = renamed(faulty("llama", *bends), names, change)
    verdict = diff(twin("llama"), target)
    assert {pair.matcher for pair in verdict.pairs} == {table}
    assert all(names(pair.site) == pair.name for pair in verdict.pairs)
    assert causes(verdict) == [bend.cause for bend in bends]
    assert bends or verdict.verdict in ("equal", "noise")


@pytest.mark.parametrize("fault", [None, "rope-pairing", "gate-up-swapped", "weight-permuted"])
def test_arrays_without_names_are_paired_by_content_after_a_fault_too(fault):
    bends = [] if fault is None else [example("llama", fault)]
    target, truth = anonymous(faulty("llama", *bends))
    verdict = diff(twin("llama"), target)
    assert {pair.name: pair.site for pair in verdict.pairs} == truth
    assert {pair.matcher for pair in verdict.pairs} == {"content"}
    assert causes(verdict) == [bend.cause for bend in bends]


@pytest.mark.parametrize("fault", ["norm-offset", "weight-transposed"])
def test_what_resembles_no_place_alone_stays_unpaired_and_is_never_misplaced(fault):
    host = "gpt2" if fault == "weight-transposed" else "llama"
    target, truth = anonymous(faulty(host, example(host, fault)), FEW)
    verdict = diff(twin(host), target)
    assert all(pair.site in (None, truth[pair.name]) for pair in verdict.pairs)
    loose = [pair.name for pair in verdict.pairs if pair.site is None]
    assert loose and any(f"`{loose[0]}`" in note for note in verdict.notes)
    assert verdict.verdict == "diverged"


def test_a_fused_array_is_cut_as_its_numbers_say():
    recorded = faulty("gpt2", example("gpt2", "activation", "error function"))
    parts = {(entry.phase, entry.step, entry.site): entry.value for entry in recorded.entries}
    for way in ("one after the other", "head by head"):
        target = Recording(engine="theirs", tokens=recorded.tokens)
        for entry in recorded.entries:
            block, _, place = entry.site.rpartition("attention.")
            if place in ("k", "v"):
                continue
            value, name = entry.value, entry.site
            if place == "q":
                q, k, v = (parts[entry.phase, entry.step, f"{block}attention.{letter}"] for letter in "qkv")
                value = torch.cat((q, k, v), 2) if way == "one after the other" else torch.stack((q, k, v), 3)
                value, name = value.flatten(2), f"transformer.h.{entry.site.split('.')[1]}.attn.c_attn"
            target.entries.append(Entry(name, entry.phase, entry.step, entry.positions, None, value))
        verdict = diff(twin("gpt2"), target)
        fused = next(pair for pair in verdict.pairs if "c_attn" in pair.name)
        assert way in fused.how and fused.site.count("+") == 2
        assert causes(verdict) == ["activation"]


def test_logits_of_the_last_token_alone_are_enough():
    recorded = faulty("llama", example("llama", "rope-pairing"))
    for entry in list(recorded.entries):
        if entry.site == "logits" and entry.phase == "prefill":
            recorded.entries.remove(entry)
            recorded.entries.append(Entry("logits", "prefill", 0, (12,), None, entry.value[:, -1:]))
    verdict = diff(twin("llama"), recorded)
    assert causes(verdict) == ["rope-pairing"] and any("only the last positions" in note for note in verdict.notes)


def test_parts_of_a_pass_are_put_together():
    recorded = faulty("llama")
    halves = []
    for entry in recorded.entries:
        if entry.site == "blocks.0.resid_post" and entry.phase == "prefill":
            halves += [Entry(entry.site, "prefill", 0, tuple(at), entry.dims, entry.value[:, at.start : at.stop])
                       for at in (range(5), range(5, 13))]  # fmt: skip
        else:
            halves.append(entry)
    recorded.entries = halves
    verdict = diff(twin("llama"), recorded)
    assert verdict.verdict == "equal" and all(pair.matcher == "site" for pair in verdict.pairs)


def test_a_bundle_of_another_model_is_incomparable_and_says_why():
    deeper = renamed(faulty("llama"), lambda site: site.replace("blocks.2", "blocks.7"))
    verdict = diff(twin("llama"), deeper)
    assert verdict.verdict == "incomparable" and "8 blocks" in verdict.says
    wider = renamed(faulty("llama"), lambda site: site, lambda site, value: value.repeat(*[1] * (value.ndim - 1), 2))
    assert "logits" in diff(twin("llama"), wider).says
    strangers = Recording(engine="x", tokens=torch.tensor([TOKENS]), entries=[
        Entry("a", "prefill", 0, (), None, torch.randn(13, 7))])  # fmt: skip
    verdict = diff(twin("llama"), strangers)
    assert verdict.verdict == "incomparable" and "none of the target's 1 arrays" in verdict.says
