"""Tokens, the embedding, positions: what happens before the first block.

What positions are is shown on these very numbers: pair by pair the angle a query was turned by, before and after, and that the
score of a query and a key stays the same when both move on together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from picolab.models.contract import LanguageModel
from picolab.parts.rope import Rope, frequencies, rotate
from picolab.report.narration.scene import Scene
from picolab.report.narration.sources import line_of
from picolab.report.narration.step import Section, Step, Table, Values
from picolab.report.narration.wording import amount, figure, plural

TOKENS_SHOWN = 24
NEAR = 0.5
"""Cosine from which two embeddings are said to point alike."""


def tokens(scene: Scene) -> Section:
    """The text as the model gets it."""
    words = scene.words
    distinct = len({word.id for word in words})
    says = f"{plural(len(words), 'token')}"
    if scene.tokenizer is not None:
        letters = len(scene.tokenizer.decode([word.id for word in words]))
        says += f" for {plural(letters, 'character')}"
        says += f", {figure(letters / len(words))} a token" if letters else ""
    says += f"; {distinct} different of a vocabulary of {scene.vocab_size:,}." if scene.vocab_size else "."
    shown = words if len(words) <= TOKENS_SHOWN else (*words[: TOKENS_SHOWN - 6], *words[-6:])
    rows = tuple((str(word.position), str(word.id), word.piece) for word in shown)
    step = Step(
        title="Tokens",
        says=f"The one that is followed below is {scene.word(scene.followed, place=True)}."
        + (f" {len(words) - len(shown)} in the middle are left out here." if len(shown) < len(words) else ""),
        tables=(Table(columns=("position", "id", "piece"), rows=rows, right=("position", "id")),),
    )
    return Section(kind="tokens", title="The text", says=says, steps=(step,))


def embedding(scene: Scene) -> Section | None:
    """A vector for every token."""
    entry = scene.entry("embed")
    if entry is None:
        return None
    value = scene.value("embed")
    if value is None:
        s = entry.statistics
        says = f"Every token becomes a vector of {s.shape[-1]} numbers, of size {figure(s.rms)} on average."
    else:
        says = _likeness(scene, value)
    formula = "x = embedding[token]"
    if hasattr(scene.model, "position_embedding"):
        formula += " + position_embedding[position]"
    if hasattr(scene.model, "embed_norm"):
        formula = "x = norm(embedding[token])"
    if scene.model is not None and scene.model.architecture == "kgram":
        formula = "x = input layer of the newest k tokens"
    step = scene.step("embed", "Embedding", says, formula=formula)
    width = entry.statistics.shape[-1]
    return Section(
        kind="embedding",
        title="Embedding",
        says=f"Each token becomes {width} numbers of size {figure(entry.statistics.rms)} (root mean square).",
        steps=(step,),
    )


def _likeness(scene: Scene, x: Tensor) -> str:
    """How long the vectors are, and which other token's points most alike."""
    lengths = x.norm(dim=-1)
    says = f"Vectors are {figure(float(lengths.min()))} to {figure(float(lengths.max()))} long"
    mine = scene.words[scene.followed].id
    others = [w.position for w in scene.words if w.id != mine]
    if not others:
        return says + "."
    cosines = torch.cosine_similarity(x[others], x[scene.followed][None], dim=-1)
    best = int(cosines.argmax())
    cosine = float(cosines[best])
    alike = (
        "points much as"
        if cosine >= NEAR
        else "is nearest to, but still unlike,"
        if cosine > 0.1
        else "is unlike all; nearest is"
    )
    return f"{says}; {scene.word(scene.followed)} {alike} {scene.word(others[best])} (cosine {figure(cosine)})."


def positions(scene: Scene) -> Section | None:
    """How a token knows where it stands."""
    model, rope = scene.model, scene.rope
    if model is None:
        return None
    if rope is not None:
        return _rotary(scene, rope)
    if hasattr(model, "position_embedding"):
        return _learned(scene, model)
    if model.architecture == "kgram":
        says = f"None: a token's place is its slot among the newest {model.config.k}."
    elif model.architecture == "lstm":
        says = "None: tokens are read one after the other, and the state carries the order."
    else:
        says = "None that could be found."
    return Section(kind="positions", title="Positions", says=says)


def _learned(scene: Scene, model: LanguageModel) -> Section:
    weight = model.get_parameter("position_embedding.weight").detach().float().cpu()[: scene.time]
    ids = torch.tensor([word.id for word in scene.words])
    words = model.get_submodule("embedding").get_parameter("weight").detach().float().cpu()[ids]
    ratio = float((weight.norm(dim=-1) / words.norm(dim=-1).clamp(min=1e-12)).mean())
    here = scene.followed
    says = (
        f"A learned vector for each of {model.config.context_length:,} positions is added to the token's,"
        f" {figure(ratio)} times as long"
    )
    if here > 0:
        near = float(torch.cosine_similarity(weight[here], weight[here - 1], dim=0))
        says += (
            f"; position {here} and the one before point {'alike' if near >= NEAR else 'apart'} (cosine {figure(near)})"
        )
    step = Step(
        title="Learned positions",
        says=says + ".",
        formula="x = embedding[token] + position_embedding[position]",
        shape=tuple(weight.shape),
        values=(Values(where=f"position {here}, lanes 0 to 5", numbers=tuple(float(x) for x in weight[here, :6])),),
        source=scene.sources.get("embed"),
    )
    return Section(kind="positions", title="Positions", says=says + ".", steps=(step,))


def _rotary(scene: Scene, rope: Rope) -> Section:
    half = rope.head_dim // 2
    speeds = _speeds(rope)
    p = scene.followed
    pairs = sorted({0, half // 2, half - 1})
    rows = []
    for i in pairs:
        turn = 2 * math.pi / speeds[i] if speeds[i] else math.inf
        rows.append(
            (f"{i}  (lanes {i}, {half + i})", f"{math.degrees(speeds[i]):.3g}", amount(round(turn)) if turn < 1e15 else "never",
             *(f"{math.degrees(speeds[i] * q) * rope.sense:.4g}" for q in (1, p)))
        )  # fmt: skip
    fast, slow = 2 * math.pi / speeds[0], 2 * math.pi / speeds[half - 1]
    turned = math.degrees(speeds[half - 1] * max(scene.time - 1, 0))
    says = (
        f"{plural(half, 'pair')} of lanes turn by an angle that grows with position: the fastest once in {figure(fast)} tokens,"
        f" the slowest once in {figure(slow)}"
    )
    says += (
        f", which is {figure(turned)} degrees over this whole text."
        if turned < 90
        else "; over this text even that one turns far."
    )
    steps = [
        Step(
            title="Angles",
            says=says,
            formula=f"angle = {'-' if rope.sense < 0 else ''}position x {rope.theta:g}^(-2i / {rope.head_dim})"
            + (", slowed for long texts" if rope.scaling is not None else ""),
            source=line_of(rotate, "torch.cat"),
            tables=(
                Table(
                    columns=("pair", "degrees a token", "tokens a turn", "at position 1", f"at {p} {scene.word(p)}"),
                    rows=tuple(rows),
                    right=("degrees a token", "tokens a turn", "at position 1", f"at {p} {scene.word(p)}"),
                ),
            ),
        )
    ]
    before = before_rotation(scene, scene.layers[0] if scene.layers else 0)
    if before is not None:
        steps += [_turned(scene, rope, *before), *_only_distance(scene, rope, *before)]
    return Section(kind="positions", title="Positions: rotation (RoPE)", says=says, steps=tuple(steps))


def _speeds(rope: Rope) -> list[float]:
    """Radians a position for every pair."""
    return [float(s) for s in frequencies(rope.head_dim, rope.theta, rope.scaling)]


def before_rotation(scene: Scene, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Queries and keys of a block as they entered the rotation, and as they left it; `(time, heads, head_dim)`."""
    at = f"blocks.{layer}.attention."
    order = scene.order
    if at + "q_rope" not in order or at + "k_rope" not in order:
        return None
    normed_first = at + "q_norm" in order and order.index(at + "q_norm") < order.index(at + "q_rope")
    q, k = ("q_norm", "k_norm") if normed_first else ("q", "k")
    found = [x for name in (q, k, "q_rope", "k_rope") if (x := scene.value(at + name)) is not None]
    return (found[0], found[1], found[2], found[3]) if len(found) == 4 else None


def _turned(scene: Scene, rope: Rope, q: Tensor, k: Tensor, q_rope: Tensor, k_rope: Tensor) -> Step:
    """Pairs of one query before and after, and the angle measured between."""
    p, half = scene.followed, rope.head_dim // 2
    rows, worst = [], 0.0
    for i in sorted({0, half // 2, half - 1}):
        a, b = (float(q[p, 0, j]) for j in (i, half + i))
        c, d = (float(q_rope[p, 0, j]) for j in (i, half + i))
        said = math.degrees(_speeds(rope)[i] * p) * rope.sense
        measured = math.degrees(math.atan2(d, c) - math.atan2(b, a))
        if math.hypot(a, b) > 1e-6:
            worst = max(worst, abs((measured - said + 180) % 360 - 180))
        rows.append(
            (str(i), f"{a:.3f}, {b:.3f}", f"{c:.3f}, {d:.3f}", f"{_within(said):.2f}", f"{_within(measured):.2f}")
        )
    longer = float((q_rope[p].norm(dim=-1) / q[p].norm(dim=-1).clamp(min=1e-12)).mean())
    expected = rope.magnitude
    kept = abs(longer - expected) < 1e-3
    if p == 0:
        says = "At position 0 every angle is 0, so nothing turned."
    else:
        says = (
            f"The query of {scene.word(p)} turned and kept its length"
            if kept and abs(expected - 1) < 1e-9
            else f"The query of {scene.word(p)} turned and is {figure(longer)} times as long"
        )
        says += f"; angles measured on the numbers are those of the formula to {figure(worst)} degrees."
    return Step(
        title=f"A query of block {scene.layers[0]}, head 0, before and after",
        says=says,
        formula="(a, b) -> (a cos - b sin, b cos + a sin)",
        source=scene.sources.get(f"blocks.{scene.layers[0]}.attention.q_rope"),
        tables=(
            Table(
                columns=("pair", "before", "after", "formula's angle", "measured"),
                rows=tuple(rows),
                right=("before", "after", "formula's angle", "measured"),
            ),
        ),
    )


def _within(degrees: float) -> float:
    """An angle from -180 to 180."""
    return (degrees + 180) % 360 - 180


def _only_distance(scene: Scene, rope: Rope, q: Tensor, k: Tensor, q_rope: Tensor, k_rope: Tensor) -> list[Step]:
    """The same query and key, placed elsewhere: their score depends on how far apart they are."""
    p = scene.followed
    if p == 0:
        return []
    distance = min(p, 2)
    s = p - distance
    query, key = q[p, 0], k[s, 0]
    recorded = float(q_rope[p, 0] @ k_rope[s, 0])
    room = rope.context_length - 1 if rope.tabulated else 10 * scene.time
    ahead = [moved for moved in (0, 1, 7, room - p) if 0 <= moved <= room - p]

    def score(at_query: int, at_key: int) -> float:
        turn = rope(torch.tensor([[at_query, at_key]], device=_device(rope)))
        both = torch.stack((query, key)).to(turn.cos.device)[None, :, None]
        turned = rotate(both, turn)[0, :, 0]
        return float(turned[0] @ turned[1])

    scores = {m: score(p + m, s + m) for m in ahead}
    rows = [(str(p + m), str(s + m), str(distance), f"{found:.4f}") for m, found in scores.items()]
    far = distance + 1 if p + 1 <= room else max(distance - 1, 0)
    other = score(s + far, s)
    rows.append((str(s + far), str(s), str(far), f"{other:.4f}"))
    spread = max(abs(found - recorded) for found in scores.values())
    says = (
        f"Moved along the text together, query {scene.word(p)} and key {scene.word(s)} keep their score of {recorded:.4f}"
        f" (within {figure(spread)}); one token further apart it would be {other:.4f}."
    )
    return [
        Step(
            title="Only the distance counts",
            says=says,
            formula="rotate(q, m) . rotate(k, n) depends on m - n",
            source=line_of(rotate, "torch.cat"),
            tables=(
                Table(
                    columns=("query at", "key at", "distance", "q . k"),
                    rows=tuple(rows),
                    right=("query at", "key at", "distance", "q . k"),
                ),
            ),
        )
    ]


def _device(rope: Rope) -> torch.device:
    return next(rope.buffers()).device
