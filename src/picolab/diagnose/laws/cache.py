"""Reading with a memory gives what reading at once gives: `cache` (I06).

at once            [a b c d e f g]
prefill, decode    [a b c d] [e] [f] [g]
chunks             [a b] [c d e f] [g]            and a second text after the first, in a new memory
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient, gap

ALLOWED = 2e-4


class Cache(Law):
    name = "cache"
    id = "I06"
    says = "prefill and decode, in chunks of any size, give the logits of one pass"
    hint = "positions while decoding (length or length - 1), the mask's offset, what is written to the cache and when, windows"
    order = 20
    compares = True

    def check(self, patient: Patient) -> Finding:
        if patient.read is None or patient.new_memory is None:
            return self.skips("the model offers no `new_cache` and no `cache=`: it is always read at once")
        tokens = patient.tokens(1, 21)
        time = tokens.shape[1]
        whole = patient.logits(tokens)
        plans = {
            "token by token": [1] * time,
            "prefill, then decode": [time - 4, 1, 1, 1, 1] if time > 4 else [time],
            "chunks of 5": [5] * (time // 5) + ([time % 5] if time % 5 else []),
            "uneven chunks": [n for n in (3, 7, 1, 2) if n] + [max(time - 13, 0)] if time > 13 else [1, time - 1],
        }
        gaps: dict[str, float] = {}
        where: dict[str, int] = {}
        for name, sizes in plans.items():
            read = _in_chunks(patient, tokens, [n for n in sizes if n])
            gaps[name] = gap(whole, read)
            where[name] = int((whole - read).abs()[0].amax(-1).nan_to_num(float("inf")).argmax())
        again = _in_chunks(patient, patient.random(1, time, salt=3), [max(time - 2, 1), *[1] * min(2, time - 1)])
        second = gap(patient.logits(patient.random(1, time, salt=3)), again)
        gaps["a second text"] = second
        name, worst = max(gaps.items(), key=lambda item: item[1])
        if not worst <= ALLOWED:
            place = f", most at position {where[name]}" if name in where else ""
            good = [n for n, g in gaps.items() if g <= ALLOWED]
            also = f"; {', '.join(good)}: right" if good else ""
            return self.fails(
                f"read {name}, logits differ from those of one pass by {worst:.2g} of the largest{place}{also}",
                gaps=gaps,
            )
        return self.passes(f"{len(gaps)} ways of reading agree to {worst:.1g}", worst=worst)


@torch.no_grad()
def _in_chunks(patient: Patient, tokens: Tensor, sizes: list[int]) -> Tensor:
    assert patient.read is not None and patient.new_memory is not None
    memory = patient.new_memory(tokens.shape[0], tokens.shape[1])
    pieces = [patient.read(piece, memory).detach().float().cpu() for piece in tokens.split(sizes, dim=1)]
    return torch.cat(pieces, dim=1)
