"""Memory is told before anything is loaded: from headers and settings alone, exactly; what cannot fit is refused."""

from dataclasses import replace

import pytest
import torch

from picolab.errors import BadCheckpoint, BadInput, UnknownName
from picolab.runs.reference import load_plan
from picolab.weights import plan
from picolab.weights.checkpoint import save_model
from picolab.weights.gguf.write import write_gguf
from picolab.weights.kept import FORMS, form_of, keep
from picolab.weights.plan import LoadPlan, free_memory, plan_checkpoint
from picolab.zoo import create
from raw_blocks import LargestFloats

from reader_files import tiny
from trained_story import STORIES, needs_stories
from zoo_twins import TWINS, adversarial

QWEN = {
    "model_type": "qwen2", "vocab_size": 151936, "max_position_embeddings": 32768, "hidden_size": 896,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
    "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
}  # fmt: skip


def of_qwen(form: str) -> LoadPlan:
    """The plan of Qwen2.5-0.5B, of which the settings are known and no file is here."""
    from picolab.weights.filling import hollow
    from picolab.weights.huggingface import described

    model = hollow(*described(QWEN, "config.json"), source="config.json")
    return plan.plan_model(model, form, None, plan.in_memory(model))


def test_the_sentence_says_what_a_well_known_model_takes():
    assert replace(of_qwen("bfloat16"), free_bytes=None).sentence == (
        "494.0 M parameters, 988 MB as bfloat16; cache 12.3 KB a token, 403 MB at 32,768"
    )
    wide = replace(of_qwen("int8"), free_bytes=None)
    assert wide.sentence == "494.0 M parameters, 496 MB as int8; cache 24.6 KB a token, 805 MB at 32,768"
    assert replace(wide, context=100).cache_bytes == 100 * 24 * 2 * 2 * 64 * 4


def test_nothing_is_read_to_tell_it(tmp_path):
    save_model(adversarial("qwen3"), None, tmp_path / "folder")
    write_gguf(tiny("llama", 300, d_model=64, d_ff=96, n_heads=4), None, tmp_path / "x.gguf", kind="Q8_0")
    for place in ("folder", "x.gguf", "softmax-pico"):
        with LargestFloats() as made:
            load_plan(place if place == "softmax-pico" else tmp_path / place)
        assert made.numbers < 600, place  # frequencies of the rotation; the smallest embedding has 1,548 numbers


@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("name", TWINS)
def test_the_cache_is_that_of_the_model(name, dtype, tmp_path):
    save_model(adversarial(name), None, tmp_path)
    told = plan_checkpoint(tmp_path, dtype, context=7)
    cache = vars(keep(adversarial(name), dtype).new_cache(1, 7))
    held = [x for x in (cache.get("memory"), cache.get("tokens")) if x is not None]
    held += [x for pair in cache.get("layers", []) for x in pair]
    assert told.cache_bytes == sum(x.nbytes for x in held) > 0


@needs_stories
def test_every_kind_of_reference_has_a_plan():
    for reference, says in {
        STORIES / "stories260K.bin": "260,032 parameters, 1.04 MB as float32, 917 KB of it mapped from the file; ",
        STORIES / "stories260K.gguf": "292,800 parameters, 1.17 MB as float32, 1.05 MB of it mapped from the file; ",
        "lstm": "493,952 parameters, 1.98 MB as float32; 2.05 KB for what it remembers of any text",
        "softmax-pico": "461,440 parameters, 1.85 MB as float32; cache 2.05 KB a token, 524 KB at 256",
    }.items():
        assert load_plan(reference).sentence.startswith(says)
    assert load_plan(STORIES / "stories260K.gguf", "stored").sentence.startswith(
        "292,800 parameters, 1.17 MB as stored, mapped from the file; "
    )
    model = create("softmax-pico", vocab_size=50257)
    assert load_plan("softmax-pico", vocab_size=50257).parameters == sum(p.numel() for p in model.parameters())


def test_counts_are_no_weights(tmp_path):
    save_model(create("ngram", vocab_size=9), None, tmp_path)
    assert load_plan(tmp_path).sentence.startswith("0 bytes of counts; 24 bytes for what it remembers")


def test_what_cannot_fit_is_refused_with_the_arithmetic_and_what_can():
    told = of_qwen("float32")
    with pytest.raises(BadInput) as caught:
        replace(told, free_bytes=10**9).check()
    assert str(caught.value) == "494.0 M parameters need 1.98 GB as float32, and 1.00 GB are free"
    assert caught.value.hint == "--dtype: float16 988 MB, bfloat16 988 MB, int8 496 MB"
    with pytest.raises(BadInput) as caught:
        replace(of_qwen("int8"), free_bytes=10**8).check()
    assert caught.value.hint == "a machine with more memory holds it"
    for enough in (2 * 10**9, None):
        assert replace(told, free_bytes=enough).check().form == "float32"


def test_what_stays_in_the_file_is_never_too_large(tmp_path):
    write_gguf(tiny("qwen2", 300), None, tmp_path / "x.gguf")
    told = replace(plan_checkpoint(tmp_path / "x.gguf"), free_bytes=0)
    assert told.own_bytes == 0 and told.check() is told


def test_a_context_that_does_not_fit_is_said_and_not_refused():
    told = replace(of_qwen("bfloat16"), free_bytes=1_200_000_000)
    assert told.fits is False and told.check() is told
    assert told.sentence.endswith("403 MB at 32,768; 1.20 GB are free")
    assert replace(told, context=2048).fits is True
    assert replace(told, free_bytes=None).fits is None


def test_the_machine_says_what_is_free_or_that_it_does_not_know(tmp_path, monkeypatch):
    assert free_memory() is None or free_memory() > 10**6
    (tmp_path / "meminfo").write_text("MemTotal:  99 kB\nMemAvailable:    2000 kB\n")
    monkeypatch.setattr(plan, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(plan, "CGROUP", tmp_path)
    assert free_memory() == 2_048_000
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert free_memory() == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == 2_048_000
    monkeypatch.setattr(plan, "MEMINFO", tmp_path / "nothing")
    monkeypatch.delattr("os.sysconf")
    assert free_memory() is None


def test_a_plan_of_nothing_is_refused_as_opening_it_is(tmp_path):
    with pytest.raises(UnknownName, match="no model or run is called `gtp2-small`"):
        load_plan("gtp2-small")
    with pytest.raises(BadInput, match="is a saved model, whose `d_model` cannot be changed"):
        load_plan(tmp_path, d_model=3)
    with pytest.raises(BadCheckpoint, match="is no checkpoint"):
        plan_checkpoint(tmp_path)
    with pytest.raises(UnknownName, match="no dtype is called `fp8`"):
        load_plan("lstm", "fp8")
    assert form_of(torch.float16) == "float16"
