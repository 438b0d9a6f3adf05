"""A model that has learned nothing guesses evenly: `initial-loss` (I14).

loss at the start = ln(vocab_size)          far above: it is sure of nonsense          below: it has seen the answer
"""

from __future__ import annotations

import math

import torch

from picolab.diagnose.laws.law import Finding, Law, Patient

FAR = 0.05
"""Of ln V: what a fresh model may be off."""


class InitialLoss(Law):
    name = "initial-loss"
    id = "I14"
    says = "an untrained model's loss is ln(vocab_size); a trained one's is well below"
    hint = "the init: tied embeddings of unit variance, a head that is not small; or labels that are not shifted"
    order = 40

    def check(self, patient: Patient) -> Finding:
        tokens = patient.tokens(2, 33)
        if tokens.shape[1] < 2:
            return self.skips("the model reads one token only")
        logits = patient.logits(tokens[:, :-1])
        loss = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))
        even = math.log(patient.vocab_size)
        if patient.trained is False:
            if abs(loss / even - 1) > FAR:
                return self.fails(
                    f"untrained, its loss is {loss:.3f} nats and a guess costs {even:.3f}", loss=loss, even=even
                )
            return self.passes(
                f"untrained, its loss is {loss:.3f} nats, a guess costs {even:.3f}", loss=loss, even=even
            )
        if patient.text is None:
            return self.skips("nobody said whether the model is trained, and no text of its own is at hand")
        if loss > 0.95 * even:
            return self.fails(
                f"on its own text its loss is {loss:.3f} nats, where guessing costs {even:.3f}: it has learned nothing",
                hint="were the weights loaded? is it the tokenizer it was trained with?", loss=loss, even=even,
            )  # fmt: skip
        return self.passes(
            f"on its own text its loss is {loss:.3f} nats, where guessing costs {even:.3f}", loss=loss, even=even
        )
