"""A patient for every law: one line wrong, in a tiny model or in somebody's code, so that a page can show what `doctor` prints.

name of the law -> a function that hands out the patient; its docstring says what is wrong, its source is shown on the page

python docs/findings/patients.py causality        what `picolab doctor` prints of this patient and this law
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.injured import injured
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Patient, examine
from picolab.diagnose.laws.offered import Data, History
from picolab.diagnose.laws.sampling import sampling_of
from picolab.diagnose.self_test import anatomy_of
from picolab.diagnose.tiny import CONTEXT, HOSTS, VOCAB, sharp
from picolab.models.contract import LanguageModel
from picolab.text.spelling import BYTE_TO_CHARACTER
from picolab.zoo import build

PATIENTS: dict[str, Callable[[], Any]] = {}


def breaks(law: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(make: Callable[[], Any]) -> Callable[[], Any]:
        PATIENTS[law] = make
        return make

    return keep


@contextmanager
def patient_for(law: str) -> Iterator[Patient]:
    """The patient of a law, as long as it is examined."""
    made = PATIENTS[law]()
    if isinstance(made, Patient):
        yield made
    else:
        model, bend, known = made
        with injured(model, [bend]):
            yield Patient.of(model, name="the patient", **known)


def healthy() -> LanguageModel:
    """A tiny Llama whose every number is drawn at random."""
    return copy.deepcopy(sharp("llama"))


def whoever(forward: Callable[[Tensor], Tensor], **known: Any) -> Patient:
    """Somebody's callable: tokens to logits, and whatever else it offers."""
    return Patient(name="the patient", forward=forward, vocab_size=VOCAB, context_length=CONTEXT, **known)


def mistake(cause: str, says: str = "") -> Any:
    """A mistake of the catalogue, to be made by a model while it is examined."""
    found = next(one for one in CATALOGUE if one.name == cause)
    return next(bend for bend in found.examples(anatomy_of("llama")) if says in bend.says())


# ---- what is loaded ---------------------------------------------------------------------------------------------------


@breaks("load-ledger")
def the_layers_index_stands_still() -> Patient:
    """A loop over layers fills block 1 with block 0's tensors."""
    model = healthy()
    model.blocks[1].mlp.load_state_dict(model.blocks[0].mlp.state_dict())
    return Patient.of(model, trained=True)


@breaks("two-seeds")
def the_heads_name_is_not_known() -> Patient:
    """The head has another name in the file, and `strict=False` passes over it."""
    weights = {name: tensor for name, tensor in healthy().state_dict().items() if not name.startswith("head")}

    def load(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = build(*HOSTS["llama"])
        model.load_state_dict(weights, strict=False)
        return model

    return Patient.of(load(0), trained=True, build=load)


@breaks("config-ledger")
def the_softcap_is_never_read() -> Patient:
    """The config says that logits are capped at 30; the model does not look."""

    class Theirs(nn.Module):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__()
            self.config, width = config, config["n_embd"]
            self.wte, self.lm_head = nn.Embedding(VOCAB, width), nn.Linear(width, VOCAB)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.lm_head(self.wte(tokens))

    model = Theirs({"n_embd": 8, "vocab_size": VOCAB, "final_logit_softcapping": 30.0})
    return whoever(model, module=model, run=lambda module, tokens: module(tokens))


# ---- words ------------------------------------------------------------------------------------------------------------


class Words:
    """Byte-level tokens, one for each byte, and two control tokens."""

    special_ids: ClassVar = {"<|im_start|>": 256, "<|im_end|>": 257}

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def decode(self, ids: list[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")


@breaks("tokenizer")
def tokens_are_joined_as_they_are_spelled() -> Patient:
    """Byte-level tokens are joined, and their alphabet is not turned back into bytes."""

    class Joined(Words):
        def decode(self, ids: list[int]) -> str:
            return "".join(BYTE_TO_CHARACTER[i] for i in ids if i < 256)

    return whoever(sharp("llama"), tokenizer=Joined(), missing="the tokenizer is asked alone")


@breaks("template")
def the_answer_has_no_beginning() -> Patient:
    """The template never writes the generation prompt."""

    class Templated(Words):
        def render(self, messages: list[dict[str, str]], add_generation_prompt: bool = False) -> list[int]:
            ids = []
            for message in messages:
                ids += [256, *self.encode(f"{message['role']}\n{message['content']}"), 257]
            return ids

    return whoever(sharp("llama"), tokenizer=Templated(), missing="the template is asked alone")


# ---- the forward pass -------------------------------------------------------------------------------------------------


@breaks("finite")
def a_row_of_the_mask_is_empty() -> Patient:
    """From position 3 on nothing is visible: 0 / 0."""
    model = healthy()

    def forward(tokens: Tensor) -> Tensor:
        logits = model(tokens).clone()
        logits[:, 3:] /= 0.0 * logits[:, 3:]
        return logits

    return whoever(forward)


@breaks("repeatable")
def something_is_kept_between_calls() -> Patient:
    """A counter that nobody resets reaches the logits."""
    model, calls = healthy(), []

    def forward(tokens: Tensor) -> Tensor:
        calls.append(len(tokens))
        return model(tokens) * (1 + 1e-3 * len(calls))

    return whoever(forward)


@breaks("causality")
def the_mask_is_missing() -> Any:
    """`is_causal=True` is forgotten."""
    return healthy(), mistake("mask-missing"), {}


@breaks("prefix")
def positions_are_counted_from_the_end() -> Patient:
    """Something depends on how long the text is."""
    model = healthy()
    return whoever(lambda tokens: model(tokens) * (1 + 0.01 * tokens.shape[1]))


@breaks("batch")
def rows_are_mixed() -> Patient:
    """A mean over the wrong axis."""
    model = healthy()

    def forward(tokens: Tensor) -> Tensor:
        logits = model(tokens)
        return logits + 0.01 * logits.mean(0, keepdim=True)

    return whoever(forward)


@breaks("positions")
def a_bag_of_words() -> Patient:
    """The order of the words before the last is never looked at."""
    table = torch.linspace(-1, 1, VOCAB * VOCAB).reshape(VOCAB, VOCAB).sin()
    return whoever(lambda tokens: F.one_hot(tokens, VOCAB).float().cumsum(1) @ table)


@breaks("strides")
def memory_is_read_as_it_lies() -> Patient:
    """A kernel takes a pointer and reads on, whatever the strides are."""
    model = healthy()

    def forward(tokens: Tensor) -> Tensor:
        return model(tokens.as_strided(tokens.shape, (tokens.shape[1], 1)))

    return whoever(forward)


@breaks("document-isolation")
def positions_begin_anew_and_nothing_divides_documents() -> Patient:
    """Packed rows are read without a mask of documents."""
    model = healthy()
    return whoever(model, module=model, packed=lambda tokens, documents: model(tokens))


@breaks("cache")
def a_slot_is_written_twice() -> Patient:
    """Slot 5 of the cache holds what belongs to position 4."""
    model = healthy()

    def read(tokens: Tensor, memory: Any) -> Tensor:
        logits = model(tokens, cache=memory)
        if memory.length > 6:
            memory.memory[0, 0, :, 5] = memory.memory[0, 0, :, 4]
        return logits

    return whoever(model, model=model, new_memory=model.new_cache, read=read)


@breaks("poison")
def one_slot_too_many_is_read() -> Patient:
    """What lies in slots that were not written yet reaches the logits."""
    model = healthy()

    def read(tokens: Tensor, memory: Any) -> Tensor:
        logits = model(tokens, cache=memory)
        return logits + 1e-3 * memory.memory[..., -1, :].mean()

    return whoever(model, model=model, module=model, new_memory=model.new_cache, read=read)


@breaks("wiring")
def a_layer_is_never_called() -> Patient:
    """A matrix is built, loaded and not used."""
    model = healthy()
    model.extra = nn.Linear(4, 4)
    return Patient.of(model)


@breaks("norms")
def the_root_is_missing() -> Patient:
    """A norm divides by the mean square, not by its root."""
    model = healthy()
    norm = model.blocks[0].mlp_norm
    norm.forward = lambda x: x / (x.square().mean(-1, keepdim=True) + 1e-6) * norm.weight
    return Patient.of(model)


@breaks("score-scale")
def scores_are_scaled_twice() -> Any:
    """Queries are scaled before a kernel that scales."""
    return healthy(), mistake("scale-wrong", "1/sqrt"), {}


@breaks("symmetry")
def keys_are_tiled() -> Any:
    """Key heads are repeated 0 1 0 1, where 0 0 0 1 1 1 is meant."""
    return healthy(), mistake("head-grouping"), {}


@breaks("attention-rows")
def the_mask_lets_the_next_token_through() -> Any:
    """The triangle is one diagonal too large."""
    return healthy(), mistake("mask-offset", "those after"), {}


@breaks("token-zero")
def heads_are_put_together_in_another_order() -> Any:
    """What the heads gathered is laid side by side in another order."""
    return healthy(), mistake("head-order"), {}


@breaks("dtype-ladder")
def a_cast_inside() -> Patient:
    """Somewhere inside, numbers are rounded to bfloat16, whatever type is asked for."""

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = healthy()

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.inner(tokens)
            return logits.bfloat16().to(logits.dtype)

    model = Rounded()
    return whoever(model, module=model, run=lambda module, tokens: module(tokens))


@breaks("quantisation")
def nibbles_are_read_the_other_way_round() -> Patient:
    """Of two codes in a byte the high one is taken first."""

    def packed(matrix: Tensor) -> Tensor:
        groups = matrix.unflatten(-1, (-1, 4))
        scale = groups.abs().amax(-1, keepdim=True) / 7
        codes = (groups / scale.clamp(min=1e-8)).round()
        return (codes.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) * scale).flatten(-2)

    return Patient.of(healthy(), quantise=packed)


# ---- what was learned -------------------------------------------------------------------------------------------------


@breaks("initial-loss")
def the_head_is_too_large() -> Patient:
    """An untrained model whose logits are thirty times too large."""
    model = healthy()
    return whoever(lambda tokens: 30 * model(tokens), trained=False)


def some_text() -> Tensor:
    return torch.randint(0, VOCAB, (400,), generator=torch.Generator().manual_seed(1))


@breaks("offset-probe")
def labels_were_never_shifted() -> Patient:
    """It was trained to say what it has just read."""
    return whoever(lambda tokens: 8.0 * F.one_hot(tokens, VOCAB).float(), trained=True, text=some_text())


@breaks("loss-by-position")
def it_loses_the_thread() -> Patient:
    """It knows what comes next, and less and less as the text goes on."""

    def forward(tokens: Tensor) -> Tensor:
        following = torch.cat((tokens[:, 1:], tokens[:, :1]), dim=1)
        sure = 8.0 - 8.0 * torch.arange(tokens.shape[1]) / tokens.shape[1]
        return sure[:, None] * F.one_hot(following, VOCAB).float()

    return whoever(forward, trained=True, text=some_text())


@breaks("loss-accounting")
def the_loss_is_not_divided_by_the_pieces() -> Patient:
    """Gradients of the pieces of a step are added as they are."""
    model = healthy()

    def loss(tokens: Tensor) -> Tensor:
        return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    def accumulate(tokens: Tensor, pieces: int) -> None:
        for piece in tokens.chunk(pieces):
            loss(piece).backward()

    return whoever(model, module=model, loss=loss, accumulate=accumulate)


@breaks("optimizer-ledger")
def vectors_decay() -> Patient:
    """One group for all parameters: norms and biases decay, too."""
    model = healthy()
    return whoever(model, module=model, optimizer=torch.optim.AdamW(model.parameters(), weight_decay=0.1))


@breaks("overfit")
def a_value_is_detached() -> Patient:
    """Between the blocks and the head the gradient is cut off."""

    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = healthy()

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.inner(tokens)
            return logits.detach() + 0.0 * self.inner.head.weight.sum()

    model = Cut()
    return whoever(model, module=model, run=lambda module, tokens: module(tokens))


# ---- what it writes ---------------------------------------------------------------------------------------------------


@breaks("sampler")
def the_crossing_token_is_dropped() -> Patient:
    """The cut is made before the token that reaches p."""

    def nucleus(logits: Tensor, p: float = 0.9) -> int:
        probs, ids = logits.softmax(-1).sort(descending=True)
        kept = probs * (probs.cumsum(0) <= p)
        kept[0] = probs[0]
        return int(ids[torch.multinomial(kept / kept.sum(), 1)])

    return whoever(sharp("llama"), sampling=sampling_of(nucleus))


@breaks("sampler-settings")
def p_is_never_read() -> Patient:
    """The sampler takes p and does nothing with it."""
    return whoever(sharp("llama"), sampling=sampling_of(lambda logits, p=0.9: int(logits.softmax(-1).multinomial(1))))


def always_the_same(tokens: Tensor) -> Tensor:
    return torch.linspace(-1, 1, VOCAB).expand(*tokens.shape, VOCAB).clone()


@breaks("repetition")
def one_token_for_ever() -> Patient:
    """Whatever it reads, one token is the most probable."""
    return whoever(always_the_same, trained=True)


@breaks("prompt-insensitivity")
def it_does_not_listen() -> Patient:
    """The logits do not depend on what was read."""
    return whoever(always_the_same, trained=True)


@breaks("uniform-attention")
def scores_are_scaled_to_nothing() -> Patient:
    """Queries are so small that all keys look alike."""
    model = healthy()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.q_proj.weight.mul_(1e-4)
    return Patient.of(model, trained=True)


# ---- what a training left behind --------------------------------------------------------------------------------------


def history(**columns: Callable[[int, dict[str, float]], float]) -> Patient:
    """Rows of a training that went well, but for these columns."""
    rows = []
    for step in range(1, 201):
        fall = 2.0 + 5.5 * math.exp(-step / 40) + 0.05 * math.sin(9 * step)
        row = {
            "step": step,
            "train/loss": fall,
            "lr": 1e-3 * min(1.0, step / 20),
            "grad_norm": 0.7 + 0.1 * math.sin(step),
        }
        row |= {"val/loss": fall + 0.1} if step % 25 == 0 else {}
        rows.append(row | {name.replace("__", "/"): rule(step, row) for name, rule in columns.items()})
    told = History(
        rows=rows, steps=200, vocab_size=2048, unigram=6.0, learning_rate=lambda step: 1e-3 * min(1.0, step / 20)
    )
    return whoever(always_the_same, history=told, missing="there are rows of a training here, and no model")


@breaks("data-hygiene")
def a_document_is_on_both_sides() -> Patient:
    """Duplicates were there before the split."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(1, 30, 40).tolist() for _ in range(80)]
    data = Data(train=lambda: documents[:41], validation=lambda: documents[40:])
    return whoever(always_the_same, data=data, missing="the data are asked alone")


@breaks("loss-curve")
def nothing_is_learned() -> Patient:
    """The loss stays where it began."""
    return history(train__loss=lambda step, row: 7.62 + 0.01 * math.sin(step))


@breaks("unigram")
def the_context_is_not_read() -> Patient:
    """The loss ends at what the frequencies of the tokens alone give."""
    return history(
        train__loss=lambda step, row: 6.1 + 1.5 * math.exp(-step / 9),
        val__loss=lambda step, row: 6.2 + 1.5 * math.exp(-step / 9),
    )


@breaks("overfitting")
def it_learns_its_text_by_heart() -> Patient:
    """The training loss falls, the validation loss turns."""
    return history(val__loss=lambda step, row: row["train/loss"] + 0.1 + max(0, step - 80) / 60)


@breaks("gradient-norm")
def no_gradient_arrives() -> Patient:
    """The norm of the gradient is next to nothing."""
    return history(grad_norm=lambda step, row: 1e-9)


@breaks("learning-rate")
def the_schedule_steps_once_a_piece() -> Patient:
    """With two pieces a step the warm-up is over in half the time."""
    return history(lr=lambda step, row: 1e-3 * min(1.0, 2 * step / 20))


@breaks("preference-curve")
def the_reference_is_the_policy() -> Patient:
    """Both models are the same object: the margin is nothing at every step."""
    return history(
        train__loss=lambda step, row: math.log(2),
        rewards__margins=lambda step, row: 0.0,
        rewards__accuracies=lambda step, row: 0.0,
        rewards__chosen=lambda step, row: 0.0,
        rewards__rejected=lambda step, row: 0.0,
    )


def main(law: str) -> None:
    """Ask one law of its patient, and print that as `picolab doctor` does."""
    from picolab.cli.doctor_show import show

    with patient_for(law) as patient:
        show(examine(patient, [one for one in LAWS if one.name == law]))


if __name__ == "__main__":
    main(*sys.argv[1:])
