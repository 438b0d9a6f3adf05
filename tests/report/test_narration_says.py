"""Sentences follow from the numbers: other numbers, another sentence."""

from __future__ import annotations

import math

import pytest
import torch

from picolab.report.narration.attention import attention
from picolab.report.narration.backward import backward, clipping, optimizer
from picolab.report.narration.loss import loss
from picolab.report.narration.markdown import as_markdown, code
from picolab.report.narration.mlp import activation
from picolab.report.narration.narrate import narrate
from picolab.report.narration.scene import Scene, piece_of
from picolab.report.narration.step import Word
from picolab.report.narration.stream import residual
from picolab.report.narration.wording import amount, figure, listed, share
from picolab.text.bytes import byte_tokenizer
from picolab.trace.recording import Entry, Recording
from picolab.trace.step import ParameterStep, StepTrace
from picolab.zoo import build

WORDS = tuple(Word(position=p, id=p, piece=piece) for p, piece in enumerate(["<s>", "the", "cat", "sat"]))


def scene(**values):
    """A scene in which only these places were seen; `__` stands for a dot."""
    recording = Recording("my-engine 1", tokens=torch.tensor([[0, 1, 2, 3]]))
    for name, value in values.items():
        site = name.replace("__", ".").replace("blocks0", "blocks.0")
        recording.entries.append(Entry(site, "prefill", 0, (0, 1, 2, 3), None, value[None].float()))
    return Scene(model=None, recording=recording, words=WORDS, followed=3)


def softmax_says(*rows):
    """What is said of heads that share the last token's attention out like this."""
    probs = torch.eye(4).repeat(len(rows), 1, 1)
    probs[:, 3] = torch.tensor(rows)
    (step,) = attention(scene(blocks0__attention__probs=probs), 0)
    return step.says


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[0.1, 0.1, 0.7, 0.1]], "Head 0 looks one token back, at `cat`, with 0.700"),
        ([[0.1, 0.8, 0.05, 0.05]], "Head 0 looks back at `the` with 0.800 of its weight"),
        ([[0.0, 0.0, 0.0, 1.0]], "Head 0 keeps to `sat` itself with 1.00"),
        ([[0.9, 0.1, 0.0, 0.0]], "Head 0 rests on the first token, `<s>`, with 0.900"),
        ([[0.25] * 4, [0.25] * 4], "No head of `sat` has a preference: entropy 1.39 of at most ln 4 = 1.39"),
        ([[0.4, 0.3, 0.2, 0.1]], "Head 0 spreads over 3.60 of 4 tokens"),
        ([[0.9, 0.1, 0.0, 0.0], [0.4, 0.3, 0.2, 0.1]], "with 0.900; head 1 spreads over 3.60 of 4 tokens"),
    ],
)
def test_what_a_head_does_is_said_by_its_weights(rows, says):
    assert says in softmax_says(*rows)


def test_attention_that_went_to_a_sink_is_missing_from_the_rows():
    assert "Rows sum to 1 (within" in softmax_says([0.1, 0.1, 0.7, 0.1])
    assert "the rest went to the heads' sinks" in softmax_says([0.05, 0.05, 0.35, 0.05])


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (0.0, "all zeros"),
        (0.01, "hardly moves the stream: 0.0100 of its length, along what is there"),
        (0.1, "nudges"),
        (-0.5, "moves the stream: 0.500 of its length, against what is there"),
        (3.0, "outweighs"),
    ],
)
def test_a_residual_is_said_to_move_the_stream_as_far_as_it_does(factor, says):
    torch.manual_seed(0)
    x = torch.randn(4, 16)
    here = scene(embed=x, blocks0__attention__out=factor * x, blocks0__resid_mid=x + factor * x)
    step = residual(here, "blocks.0.resid_mid", "embed", "blocks.0.attention.out", "Residual", "x + out")
    assert says in step.says


def test_a_residual_across_the_stream_is_new_to_it():
    x, out = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 0.5]] * 4)
    here = scene(embed=x, blocks0__attention__out=out, blocks0__resid_mid=x + out)
    step = residual(here, "blocks.0.resid_mid", "embed", "blocks.0.attention.out", "Residual", "x + out")
    assert "in directions mostly new to it (cosine 0)" in step.says


def test_silent_units_are_counted():
    act = torch.tensor([[0.0, 0.0, 0.0, 2.0]] * 4)
    says = activation(scene(blocks0__mlp__act=act), "blocks.0.mlp.act", "relu").says
    assert "75 % of units are silent (sparse, 75 % exactly 0), 3 units on every token" in says
    assert "unit 3 is loudest (2.00), and three units hold 100 % of the energy" in says
    dense = activation(scene(blocks0__mlp__act=torch.ones(4, 4)), "blocks.0.mlp.act", "relu").says
    assert "0 % of units are silent (dense)" in dense


def taken(*norms, gradients=(), clip=1.0, update=1e-3, losses=(2.0, 1.0)):
    """A step whose parameters have these gradients, over blocks whose gradients are these."""
    recording = Recording("picolab 0", tokens=torch.tensor([[0, 1, 2, 3]]))
    for layer, norm in enumerate(gradients):
        value = torch.full((1, 4, 1), norm / 2.0)
        recording.entries.append(Entry(f"grad/blocks.{layer}.resid_post", "backward", 0, (0, 1, 2, 3), None, value))
    total = math.hypot(*norms)
    return StepTrace(
        recording=recording,
        targets=torch.tensor([[1, 2, 3, -1]]),
        losses=torch.ones(1, 4),
        mean_losses=losses,
        parameters=tuple(
            ParameterStep(
                name=f"blocks.{i}.mlp.up_proj.weight", count=4, gradient_norm=n, weight_norm=1.0, update_norm=update
            )
            for i, n in enumerate(norms)
        ),
        gradient_norm=total,
        clip=clip,
        clip_factor=min(1.0, clip / total) if clip and total else 1.0,
        lr=1e-3,
    )


@pytest.mark.parametrize(
    ("gradients", "says"),
    [((0.005, 1.0), "vanishing"), ((1.0, 2.0), "neither vanishes nor explodes"), ((500.0, 1.0), "exploding")],
)
def test_a_gradient_that_dies_or_grows_on_its_way_is_named(gradients, says):
    recording = Recording("my-engine 1", tokens=torch.tensor([[0, 1, 2, 3]]))
    for layer in range(2):
        recording.entries.append(
            Entry(f"blocks.{layer}.resid_post", "prefill", 0, (0, 1, 2, 3), None, torch.ones(1, 4, 1))
        )
    here = Scene(model=None, recording=recording, words=WORDS, followed=3)
    assert says in backward(here, taken(1.0, gradients=gradients)).says


def test_a_parameter_no_gradient_reaches_is_named():
    assert (
        "nothing reaches 1 parameter, among them `blocks.1.mlp.up_proj.weight`"
        in backward(scene(), taken(1.0, 0.0)).steps[0].says
    )


def test_clipping_says_what_it_did():
    assert "above the limit of 1: every gradient is multiplied by 0.250" in clipping(taken(4.0)).says
    assert "within the limit" in clipping(taken(0.5)).says
    assert "None was asked for" in clipping(taken(0.5, clip=0.0)).says


@pytest.mark.parametrize(("update", "says"), [(1e-3, "near what is usual"), (0.1, "more than"), (1e-6, "less than")])
def test_an_update_is_held_against_what_is_usual(update, says):
    assert says in optimizer(taken(1.0, update=update)).says


def test_a_step_that_made_it_worse_is_said_to_be_too_long():
    assert "the step was too long" in optimizer(taken(1.0, losses=(2.0, 2.5))).steps[-1].says
    assert "instead of 2.00" in optimizer(taken(1.0, losses=(2.0, 1.5))).steps[-1].says


@pytest.mark.parametrize(
    ("nats", "says"), [(9.0, "worse than"), (math.log(100), "as much as"), (1.0, "a choice among")]
)
def test_a_loss_is_held_against_knowing_nothing(nats, says):
    here = scene(logits=torch.zeros(4, 100))
    assert says in loss(here, torch.full((3,), nats)).says


def test_matrices_of_zeros_are_announced_at_the_top():
    torch.manual_seed(0)
    settings = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24}
    model = build("nanochat", settings).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out_proj.weight.zero_()
    from picolab.report.narration.passes import watch

    told = narrate(model, watch(model, [1, 2, 3]).recording)
    assert told.notes[0].startswith("2 matrices of the model hold nothing but zeros")
    assert "`blocks.0.attention.out_proj.weight`" in told.notes[0]
    zeros = next(s for s in told.section("block", 0).steps if s.site == "blocks.0.attention.out")
    assert zeros.says == "All zeros: attention adds nothing to the stream."


def test_a_token_cannot_steer_a_terminal_nor_a_page():
    words = byte_tokenizer()
    assert all(piece_of(words, token).isprintable() for token in range(words.vocab_size))
    assert code("a`b``c") == "```a`b``c```" and code("`") == "`` ` ``"
    recording = Recording("e 1", tokens=torch.tensor([[0, 1]]))
    recording.entries.append(Entry("embed", "prefill", 0, (0, 1), None, torch.ones(1, 2, 4)))
    told = narrate(None, recording, name="<b>*x*")
    assert "# \\<b\\>\\*x\\*, traced" in as_markdown(told)


@pytest.mark.parametrize(
    ("number", "read"),
    [
        (0, "0"),
        (0.8123, "0.812"),
        (14.23, "14.2"),
        (1480, "1,480"),
        (3.1e-5, "3.1e-05"),
        (math.nan, "not finite"),
        (-2, "-2.00"),
    ],
)
def test_numbers_are_said_with_three_figures(number, read):
    assert figure(number) == read


def test_amounts_shares_and_lists_are_said_in_words():
    assert [amount(n) for n in (999, 260_000, 560_988_160, 2.1e9)] == ["999", "260.0 k", "561.0 M", "2.1 G"]
    assert [share(x) for x in (0, 0.0004, 0.043, 0.5, 0.97, 0.9999, 1)] == [
        "0 %", "under 0.1 %", "4.3 %", "50 %", "97.0 %", "over 99.9 %", "100 %",
    ]  # fmt: skip
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
