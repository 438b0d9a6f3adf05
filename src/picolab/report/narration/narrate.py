"""One pass, told from the model card to the optimizer's step.

    recording (+ the step that was traced with it) -> Narration: card, tokens, embedding, positions, blocks, head, loss, backward ..

What was not recorded is not told: a recording of five places gives five steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.report.narration import backward, opening
from picolab.report.narration.blocks import blocks
from picolab.report.narration.card import card
from picolab.report.narration.head import head
from picolab.report.narration.loss import loss, losses_of
from picolab.report.narration.scene import Scene, piece_of
from picolab.report.narration.sources import line_of, sources_of
from picolab.report.narration.step import Narration, Section, Word
from picolab.report.narration.warnings import warnings
from picolab.text.tokenizer import Tokenizer
from picolab.trace.recording import Recording
from picolab.trace.step import StepTrace, token_losses_of

OURS = "picolab "
"""How recordings of our own passes name their engine."""


def narrate(
    model: LanguageModel | None,
    recording: Recording,
    *,
    taken: StepTrace | None = None,
    tokenizer: Tokenizer | None = None,
    name: str = "",
    followed: int | None = None,
    layers: Collection[int] | None = None,
    notes: Sequence[str] = (),
    rows: Mapping[str, Tensor] | None = None,
) -> Narration:
    """The narration of a recorded pass over one text; with `taken`, of the backward pass and the step too.

    `followed` is the position whose values are shown (negative counts from the end; the last if not given), `layers` the
    blocks told step by step (negative counts from the end; the first three and the last if not given). Where nothing here can
    open the model, `model` is None, and what only its settings would tell is left out. `rows` is what `passes.watch` kept of a long
    text's attention.
    """
    architecture = "a model nothing here can open" if model is None else model.architecture
    ids = [int(token) for token in recording.tokens[0]]
    words = tuple(Word(position=p, id=token, piece=piece_of(tokenizer, token)) for p, token in enumerate(ids))
    scene = Scene(
        model=model,
        recording=recording,
        words=words,
        followed=position_of(followed, len(words)),
        rows=rows or {},
        tokenizer=tokenizer,
        sources=sources_of(model) if model is not None and recording.engine.startswith(OURS) else {},
    )
    sections: list[Section | None] = [
        None if model is None else card(scene, model),
        opening.tokens(scene),
        opening.embedding(scene),
        opening.positions(scene),
        *blocks(scene, None if layers is None else layers_of(layers, scene.layers)),
        head(scene),
    ]
    losses = losses_of(scene) if taken is None else taken.losses[0, : scene.time - 1].detach().float().cpu()
    if losses is not None:
        sections.append(loss(scene, losses, None if taken is None else line_of(token_losses_of, "F.cross_entropy")))
    if taken is not None:
        sections += [backward.backward(scene, taken), backward.clipping(taken), backward.optimizer(taken)]
    mean = None if losses is None else float(losses.mean())
    return Narration(
        model=name or architecture,
        architecture=architecture,
        engine=recording.engine,
        words=words,
        followed=scene.followed,
        sections=tuple(section for section in sections if section is not None),
        notes=(*notes, *warnings(scene, mean)),
    )


def position_of(followed: int | None, time: int) -> int:
    """A position as somebody gave it, from the start or from the end."""
    given = -1 if followed is None else followed
    if not -time <= given < time:
        raise BadInput(f"there is no token {given} in a text of {time}", hint=f"0 to {time - 1}, or -1 for the last")
    return given % time


def layers_of(given: Collection[int], layers: Sequence[int]) -> set[int]:
    """Blocks as somebody gave them, from the start or from the end."""
    n = len(layers)
    for layer in given:
        if not -n <= layer < n:
            raise BadInput(f"there is no block {layer} in {n}", hint=f"0 to {n - 1}, or -1 for the last")
    return {layers[layer] for layer in given}
