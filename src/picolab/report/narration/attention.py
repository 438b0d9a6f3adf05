"""Attention, step by step, for the token that is followed: who asks, who answers, how much of each is taken.

a head is focused      its heaviest weight is at least a half
heads are undecided    every row's entropy is within 2 % of ln(tokens it may see): nothing was preferred
averaging cancels      a mixture is less than half as long as the values it was drawn from
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from picolab.report.narration.opening import before_rotation
from picolab.report.narration.scene import Scene
from picolab.report.narration.step import Step, Table
from picolab.report.narration.wording import figure, listed, plural, share

FOCUSED, UNDECIDED, CANCELS, COPIES = 0.5, 0.98, 0.5, 0.9
HEADS_SHOWN = 8
KEYS_SHOWN = 3
NAMES = {"q": "Queries", "k": "Keys", "v": "Values"}
ASKS = {
    "q": "what each token looks for",
    "k": "what each token offers to be found by",
    "v": "what each token hands over",
}


def attention(scene: Scene, layer: int) -> Iterator[Step]:
    """The steps of one block's attention that were recorded, in the order of computation."""
    at = f"blocks.{layer}.attention."
    for site in scene.order:
        if not site.startswith(at):
            continue
        name = site.removeprefix(at)
        if name in NAMES:
            yield _projection(scene, site, name)
        elif name in ("q_norm", "k_norm"):
            yield _normed(scene, site, name[0])
        elif name in ("q_rope", "k_rope"):
            yield _rotated(scene, site, name[0], layer)
        elif name in ("q_map", "k_map"):
            yield _mapped(scene, site, name[0])
        elif name == "gates":
            yield _gates(scene, site)
        elif name == "scores":
            yield _scores(scene, site, layer)
            if layer_mask := _mask(scene, site, layer):
                yield layer_mask
        elif name == "probs":
            yield _probs(scene, site, layer)
        elif name == "mixed":
            yield _mixed(scene, site, layer)
        elif name == "out":
            yield _out(scene, site)


def sharing(scene: Scene) -> str | None:
    """How query heads share key and value heads; None where each has its own."""
    q, k = (next((scene.entry(s) for s in scene.order if s.endswith(f"attention.{name}")), None) for name in "qk")
    if q is None or k is None:
        return None
    queries, keys = q.statistics.shape[-2], k.statistics.shape[-2]
    if queries == keys:
        return None
    group = queries // keys
    first = listed([str(h) for h in range(group)])
    return f"{queries} query heads share {keys}: heads {first} read number 0" + (
        f", the last {group} number {keys - 1}" if keys > 1 else ""
    )


def _projection(scene: Scene, site: str, name: str) -> Step:
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    heads = entry.statistics.shape[-2]
    formula = f"x W_{name} -> {plural(heads, 'head')}"
    shared = sharing(scene) if name == "k" else None
    says = f"{ASKS[name][0].upper()}{ASKS[name][1:]}"
    if value is None:
        says += f"; numbers of size {figure(entry.statistics.rms)}."
    else:
        lengths = value.norm(dim=-1).mean(0)
        long, short = int(lengths.argmax()), int(lengths.argmin())
        if heads == 1 or float(lengths[long]) < 1.1 * float(lengths[short]):
            says += f"; {figure(float(lengths.mean()))} long on average, in all heads alike."
        else:
            most, least = (figure(float(lengths[head])) for head in (long, short))
            says += f"; longest in head {long} ({most}), shortest in head {short} ({least})."
    if shared:
        says += f" {shared}."
    return scene.step(site, NAMES[name], says, formula=formula)


def _normed(scene: Scene, site: str, letter: str) -> Step:
    at, value = site.rpartition(".")[0], scene.value(site)
    order = scene.order
    before = f"{at}.{letter}_rope"
    if before not in order or order.index(before) > order.index(site):
        before = f"{at}.{letter}"
    was, entry = scene.value(before), scene.entry(site)
    assert entry is not None
    if value is None or was is None:
        says = f"Their size is now {figure(entry.statistics.rms)}."
    else:
        old, new = was.norm(dim=-1), value.norm(dim=-1)
        says = (
            f"Lengths of {figure(float(old.min()))} to {figure(float(old.max()))} become "
            f"{figure(float(new.min()))} to {figure(float(new.max()))}, so no score can run away."
        )
    return scene.step(site, f"{NAMES[letter]}, normed", says, formula="x / sqrt(mean(x^2) + eps), a head at a time")


def _rotated(scene: Scene, site: str, letter: str, layer: int) -> Step:
    found = before_rotation(scene, layer)
    p = scene.followed
    if found is None:
        entry = scene.entry(site)
        assert entry is not None
        says = f"Turned by position; their size is {figure(entry.statistics.rms)}."
    else:
        before, after = (found[0], found[2]) if letter == "q" else (found[1], found[3])
        turned = torch.cosine_similarity(before[p], after[p], dim=-1)
        angle = math.degrees(float(turned.clamp(-1, 1).arccos().mean()))
        says = (
            f"{scene.word(p)} is at position 0 and was not turned."
            if p == 0
            else f"At position {p}, {scene.word(p)} points {figure(angle)} degrees away from where it did, on average over heads."
        )
    return scene.step(site, f"{NAMES[letter]}, rotated", says, formula=f"rotate({letter}, position)")


def _mapped(scene: Scene, site: str, letter: str) -> Step:
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    if value is None:
        says = f"Positive numbers of size {figure(entry.statistics.rms)}."
    else:
        low = float((value < 1).float().mean())
        says = f"Every lane is positive now; {share(low)} of them were below 0 and lie between 0 and 1."
    return scene.step(site, f"{NAMES[letter]}, mapped", says, formula="elu(x) + 1")


def _gates(scene: Scene, site: str) -> Step:
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    formula = "kept = sigmoid(x W_g + b)^(1/16), here its logarithm"
    if value is None:
        return scene.step(
            site, "Gates", f"Logarithms of the share kept, of size {figure(entry.statistics.rms)}.", formula=formula
        )
    kept = value.mean(0).exp()  # heads
    long, short = int(kept.argmax()), int(kept.argmin())
    says = f"At a token, head {long} keeps {share(float(kept[long]))} of what it has gathered"
    if long != short:
        says += f", head {short} {share(float(kept[short]))}"
    return scene.step(site, "Gates", says + ", on average.", formula=formula)


def window_of(scene: Scene, layer: int) -> int | None:
    """How far back a block sees, where that has a limit."""
    window = getattr(scene.module(f"blocks.{layer}.attention"), "window", None)
    return int(window) if isinstance(window, int) and window else None


def _scores(scene: Scene, site: str, layer: int) -> Step:
    value, p = scene.value(site), scene.followed
    entry = scene.entry(site)
    assert entry is not None
    formula = f"q . k / sqrt({_head_dim(scene) or 'head_dim'})"
    if value is None:
        s = entry.statistics
        says = f"Among visible pairs they spread by {figure(s.std)}, from {figure(s.minimum)} to {figure(s.maximum)}."
        return scene.step(site, "Scores", says, formula=formula)
    visible = _visible(scene, layer)
    seen = value[:, visible]
    says = f"Among visible pairs they spread by {figure(float(seen.std(unbiased=False)))}"
    row = value[:, p].masked_fill(~visible[p], -torch.inf)
    head, key = divmod(int(row.argmax()), row.shape[1])
    says += f"; the highest of {scene.word(p)} is {figure(float(row[head, key]))}, head {head} with {scene.word(key)}."
    if float(seen.std(unbiased=False)) < 0.05:
        says += " So small a spread leaves softmax almost even."
    return scene.step(site, "Scores", says, formula=formula)


def _head_dim(scene: Scene) -> int | None:
    q = next((scene.entry(site) for site in scene.order if site.endswith("attention.q")), None)
    return None if q is None else q.statistics.shape[-1]


def _visible(scene: Scene, layer: int) -> Tensor:
    """True where a query may look at a key."""
    index = torch.arange(scene.time)
    visible = index[None] <= index[:, None]
    window = window_of(scene, layer)
    return visible if window is None else visible & (index[:, None] - index[None] < window)


def _mask(scene: Scene, site: str, layer: int) -> Step | None:
    """What the mask hides, and what it would have been worth."""
    value, time = scene.value(site), scene.time
    window = window_of(scene, layer)
    pairs = time * time
    if value is None:
        visible_pairs = time * (time + 1) // 2 if window is None else sum(min(t + 1, window) for t in range(time))
        hidden, future = pairs - visible_pairs, None
    else:
        visible = _visible(scene, layer)
        hidden = int((~visible).sum())
        later = torch.ones(time, time, dtype=torch.bool).triu(1)
        future = float(value.softmax(-1).masked_fill(~later, 0).sum(-1).mean())
    says = f"{hidden:,} of {pairs:,} pairs are hidden"
    says += (
        " because the key comes after the query"
        if window is None
        else f": keys to come, and those {window} or more back"
    )
    if future is not None and time > 1:
        says += f"; without it {share(future)} of all attention would go to tokens not yet read"
    return Step(
        title="Causal mask",
        says=says + ".",
        formula="-inf where key > query" + ("" if window is None else f" or query - key >= {window}"),
        shape=(1, 1, time, time),
        source=scene.sources.get(site.replace("scores", "probs")),
    )


def _probs(scene: Scene, site: str, layer: int) -> Step:
    found = scene.attention(site)
    assert found is not None
    row_sum, entropy, heaviest, key = found
    p = scene.followed
    window = window_of(scene, layer)
    seen = p + 1 if window is None else min(p + 1, window)
    says = _focus(scene, entropy[:, p], heaviest[:, p], key[:, p], seen)
    off = float((row_sum - 1).abs().max())
    says += (
        f" Rows sum to 1 (within {figure(off)})."
        if off < 1e-3
        else f" Rows sum to {figure(float(row_sum.mean()))} on average: the rest went to the heads' sinks."
    )
    tables = [_table_of_heads(scene, site, entropy, heaviest, key, row_sum)]
    if site.replace("probs", "q_map") in scene.order:
        title, formula = "Implied weights", "map(q) . map(k) / sum of them, keys up to the query's"
    else:
        title, formula = "Softmax", "exp(score) / sum of exp(score)"
    return scene.step(site, title, says, formula=formula, tables=tables)


def _focus(scene: Scene, entropy: Tensor, heaviest: Tensor, key: Tensor, seen: int) -> str:
    """What the heads of one query do, in a sentence."""
    me = scene.followed
    name = scene.word(me)
    if seen == 1:
        return f"{name} may look at itself only."
    most = math.log(seen)
    if bool((entropy >= UNDECIDED * most).all()):
        return f"No head of {name} has a preference: entropy {figure(float(entropy.mean()))} of at most ln {seen} = {figure(most)}."
    focused = [h for h in torch.argsort(heaviest, descending=True).tolist() if float(heaviest[h]) >= FOCUSED]
    others = [h for h in range(len(heaviest)) if h not in focused]
    told = []
    for head in focused[:3]:
        where, weight = int(key[head]), figure(float(heaviest[head]))
        if where == me:
            told.append(f"head {head} keeps to {name} itself with {weight} of its weight")
        elif where == 0:
            told.append(f"head {head} rests on the first token, {scene.word(0)}, with {weight}")
        elif where == me - 1:
            told.append(f"head {head} looks one token back, at {scene.word(where)}, with {weight}")
        else:
            told.append(f"head {head} looks back at {scene.word(where)} with {weight} of its weight")
    if len(focused) > 3:
        told.append(f"{plural(len(focused) - 3, 'further head')} also put most of their weight on one token")
    if others:
        spread = float(entropy[others].exp().mean())
        subject = "the other heads spread" if focused else f"the {plural(len(others), 'head')} of {name} spread"
        if len(others) == 1:
            subject = f"head {others[0]} spreads"
        told.append(f"{subject} over {figure(spread)} of {seen} tokens" + (" on average" if len(others) > 1 else ""))
    says = "; ".join(told)
    return says[0].upper() + says[1:] + "."


def _table_of_heads(scene: Scene, site: str, entropy: Tensor, heaviest: Tensor, key: Tensor, row_sum: Tensor) -> Table:
    """What every head of the followed token looks at most."""
    p, row = scene.followed, scene.row(site)
    rows = []
    for head in range(entropy.shape[0]):
        if row is None:
            most = [(float(heaviest[head, p]), int(key[head, p]))]
        else:
            weights, keys = row[head, : p + 1].topk(min(KEYS_SHOWN, p + 1))
            most = list(zip(weights.tolist(), keys.tolist(), strict=True))
        looks = "  ".join(f"{scene.words[k].piece} ({k}) {w:.2f}" for w, k in most)
        rows.append((str(head), looks, f"{float(entropy[head, p]):.2f}", f"{float(row_sum[head, p]):.4f}"))
    return Table(
        title=f"{scene.word(p, place=True)} looks most at; entropy of at most ln {p + 1} = {math.log(p + 1):.2f}",
        columns=("head", "tokens", "entropy", "row sum"),
        rows=tuple(rows),
        right=("entropy", "row sum"),
    )


def _mixed(scene: Scene, site: str, layer: int) -> Step:
    mixed, v = scene.value(site), scene.value(f"blocks.{layer}.attention.v")
    probs = scene.value(f"blocks.{layer}.attention.probs")
    formula = "sum over keys of probs x v, heads side by side"
    entry = scene.entry(site)
    assert entry is not None
    if mixed is None or v is None or probs is None:
        return scene.step(site, "Mixed values", f"Their size is {figure(entry.statistics.rms)}.", formula=formula)
    heads = probs.shape[0]
    taken = mixed.unflatten(-1, (heads, -1)).norm(dim=-1)  # time heads
    lengths = v.norm(dim=-1).repeat_interleave(heads // v.shape[1], dim=1)  # past heads
    drawn = torch.einsum("htp,ph->th", probs, lengths).clamp(min=1e-12)
    kept = (taken / drawn).mean(0)
    low, high = int(kept.argmin()), int(kept.argmax())
    average = float(kept.mean())
    says = f"On average a mixture is {figure(average)} as long as the values it was drawn from"
    says += (
        ": they point apart and averaging cancels much of them"
        if average < CANCELS
        else ": nearly one value, copied whole"
        if average > COPIES
        else ": values that partly agree"
    )
    if heads > 1 and float(kept[high]) - float(kept[low]) > 0.1:
        says += f"; most is kept in head {high} ({figure(float(kept[high]))}), least in head {low} ({figure(float(kept[low]))})"
    return scene.step(site, "Mixed values", says + ".", formula=formula)


def _out(scene: Scene, site: str) -> Step:
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    if value is None:
        says = f"What attention will add to the stream; of size {figure(entry.statistics.rms)}."
    elif not bool(value.any()):
        says = "All zeros: attention adds nothing to the stream."
    else:
        lengths = value.norm(dim=-1)
        most = int(lengths.argmax())
        longest, mean = figure(float(lengths[most])), figure(float(lengths.mean()))
        says = f"It will add most to {scene.word(most)} ({longest} long), {mean} on average."
    return scene.step(site, "Output projection", says, formula="mixed W_out")
