"""How is a story made up? A cast and a few things are drawn, then a plot is told beat by beat, each in one of its wordings.

    words.txt      who and what there is      ─┐
    sentences.txt  turns of phrase all share   ├─ rules ─ compiler ─ teller: tell(rng) ─ one story
    plots/*.txt    one plot a file            ─┘

    words.txt   place.child (place, in_place):      plots/lost_toy.txt   let toy; place
                    the park / in the park                               ==
                    the beach / at the beach                             {N} [lost|dropped] {his} {toy} {in_place}.

`{name}` is a drawn value or another rule, `[a|b]` a choice, `==` the next beat, `==?` one that is told half of the time.
`{Name}` begins with a capital letter. `name.child` and `name.animal` are two forms of one rule, for the town and for the
forest. The article is set right at the end: `a {thing}` becomes `an apple`.
"""

from __future__ import annotations

from picolab.data.grammar.teller import tell

__all__ = ["tell"]
