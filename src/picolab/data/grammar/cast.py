"""Who is in a story? Hero, friend, somebody of the family and somebody wise, each with a name and pronouns.

    {N} gave {his} {toy} to {F}, and {fhe} thanked {him}  ->  Anna gave her kite to Tom, and he thanked her

Hero and friend are a girl and a boy, in either order, so that `he` is never in doubt between the two.
"""

from __future__ import annotations

from functools import cache
from random import Random

from picolab.data.grammar.rules import read_rules

_PEOPLE = {"N": ("", "name"), "F": ("f", "name"), "G": ("g", "family"), "W": ("w", "wise")}
"""What stands before the pronouns of each (`{he}`, `{fhe}`, `{ghe}`, `{whe}`), and the list of names."""

_PRONOUNS = {
    "girl": {"he": "she", "him": "her", "his": "her", "himself": "herself", "girl": "girl"},
    "boy": {"he": "he", "him": "him", "his": "his", "himself": "himself", "girl": "boy"},
}
_OTHER = {"girl": "boy", "boy": "girl"}


def draw_cast(world: str, rng: Random) -> dict[str, str]:
    """Every slot of the cast with its value."""
    rules, random = read_rules(), rng.random
    hero = "girl" if random() < 0.5 else "boy"
    genders = {"N": hero, "F": _OTHER[hero]} | {who: "girl" if random() < 0.5 else "boy" for who in "GW"}
    bound: dict[str, str] = {}
    for who, (prefix, people) in _PEOPLE.items():
        names = rules[f"{people}_{genders[who]}.{world}"].lines
        bound[who] = names[int(random() * len(names))]
        bound |= _pronouns(prefix, genders[who])
    if world == "child":
        bound["kind"], bound["fkind"] = bound["girl"], bound["fgirl"]
    else:
        animals = rules["animal"].lines
        first = int(random() * len(animals))
        second = (first + 1 + int(random() * (len(animals) - 1))) % len(animals)
        bound["kind"], bound["fkind"] = animals[first], animals[second]
    return bound


def cast_slots() -> frozenset[str]:
    """The names that `draw_cast` gives a value, in every world."""
    pronouns = [name for prefix, _ in _PEOPLE.values() for name in _pronouns(prefix, "girl")]
    return frozenset([*_PEOPLE, "kind", "fkind", *pronouns])


@cache
def _pronouns(prefix: str, gender: str) -> dict[str, str]:
    small = {prefix + word: pronoun for word, pronoun in _PRONOUNS[gender].items()}
    return small | {name.capitalize(): pronoun.capitalize() for name, pronoun in small.items()}
