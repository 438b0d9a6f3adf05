"""What a run of preference training adds to the page of a run: what was learned by kind, what it cost, the pairs themselves.

Run -> changes (runs/preference.py) -> the page of a run, with its words, figures and table in place of the loss alone
"""

from __future__ import annotations

from dataclasses import replace

from picolab.report import figures
from picolab.report.page import Card, Cell, Fact, Line, Page, Tab, Table
from picolab.runs.folder import Run
from picolab.runs.preference import Changes, Kind, changes_of

CAPTION = (
    "Loss on held-out plain text in nats a token: lower is better. The training loss is one of pairs, in another unit."
)


def with_preference(page: Page, run: Run) -> Page:
    """The page of a run, told as preference training; as it is before anything was measured."""
    changes = changes_of(run)
    if changes is None:
        return page
    settings = run.settings
    lead, *words = in_words(changes)
    return replace(
        page,
        title=f"{settings.model.preset} learns to prefer: {settings.data.spec}",
        lead=lead,
        facts=(*_facts(changes), *(fact for fact in page.facts if fact.label in ("Vocabulary", "Status"))),
        words=(*words, *(said for said in page.words if said.startswith("The run is "))),
        curves=None if page.curves is None else {**page.curves, "caption": CAPTION},
        table=_table(changes),
        tabs=(*page.tabs, *_pairs(run)),
        method=(
            *page.method,
            ("Preference", ", ".join(f"{key} {value}" for key, value in settings.dpo.model_dump().items() if value)),
            (
                "Reward",
                "beta times ln p(response | prompt) minus the same under the frozen reference; only response tokens count.",
            ),
        ),
    )


def in_words(changes: Changes) -> tuple[str, ...]:
    """The result in sentences that its numbers support."""
    overall, worst = changes.overall, min(changes.kinds, key=lambda kind: kind.rewarded)
    said = [
        f"Of {overall.pairs:,} held-out pairs, {overall.rewarded:.1%} are told apart after {changes.step:,} steps: their "
        "better side gained more than the worse one, measured against the reference."
    ]
    if len(changes.kinds) > 1:
        said.append(f"Hardest are worse sides of the kind {worst.name}: {worst.rewarded:.1%}.")
    direction = "rose" if changes.cost > 0 else "fell"
    said.append(
        f"The loss on plain text {direction} by {abs(changes.cost):.1%}, from {changes.loss_before:.3f} to "
        f"{changes.loss_after:.3f} nats a token: that is the price, or the gain."
    )
    said.append(f"Where the model writes, it is {changes.kl:.3f} nats a token from its reference.")
    return tuple(said)


def _facts(changes: Changes) -> tuple[Fact, ...]:
    overall = changes.overall
    return (
        Fact(label="Held-out pairs", value=f"{overall.rewarded:.1%}", note="better side has the higher reward"),
        Fact(
            label="By likelihood",
            value=f"{overall.likelier_after:.1%}",
            note=f"better side is the likelier one; {overall.likelier_before:.1%} before",
        ),
        Fact(
            label="Plain text",
            value=figures.loss(changes.loss_after),
            note=f"nats a token, {changes.cost:+.1%}; lower is better",
        ),
        Fact(label="Divergence", value=f"{changes.kl:.3f}", note="nats a token from the reference, on its own text"),
        Fact(label="Margin", value=f"{changes.rewards['margins']:.2f}", note="mean reward, chosen above rejected"),
    )


def _table(changes: Changes) -> Table:
    return Table(
        columns=(
            ("Worse side", "how it was made"),
            ("Pairs", "held out"),
            ("Reward right", "after, higher is better"),
            ("Likelier", "before"),
            ("Likelier", "after"),
        ),
        lines=tuple(_line(kind) for kind in changes.kinds),
        title="Held-out pairs, by how their worse side was made",
        caption="Half is chance. Reward right: the better side gained more than the worse one over the reference. Likelier: the "
        "better side has the higher probability, whatever the reference says.",
    )


def _line(kind: Kind) -> Line:
    shares = (kind.rewarded, kind.likelier_before, kind.likelier_after)
    cells = [Cell(text=f"{kind.pairs:,}", key=kind.pairs), *(Cell(text=f"{one:.1%}", key=one) for one in shares)]
    return Line(colour="m0", name=kind.name, says="", baseline=False, cells=tuple(cells))


def _pairs(run: Run) -> tuple[Tab, ...]:
    examples = run.meta.get("data", {}).get("examples", [])
    return tuple(
        Tab(
            label=f"pair: {example['kind']}",
            says="A held-out pair; the prompt is grey.",
            cards=tuple(
                Card(title=side, colour="m0", note="", prompt=example["prompt"], text=example[side])
                for side in ("chosen", "rejected")
            ),
        )
        for example in examples
    )
