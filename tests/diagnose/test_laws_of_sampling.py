"""Samplers and tokenizers as people write them: the broken ones are caught, the healthy ones are left alone."""

import copy
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers

from picolab.diagnose.laws.law import Patient, examine
from picolab.diagnose.laws.sampler import SamplerLaw
from picolab.diagnose.laws.sampler_settings import SamplerSettings
from picolab.diagnose.laws.sampling import own_sampling, sampling_of
from picolab.diagnose.laws.template import Template
from picolab.diagnose.laws.tokenizer import TokenizerLaw
from picolab.text.build import build_tokenizer
from picolab.text.gpt2 import BYTE_TO_CHARACTER
from picolab.text.tokenizer import Tokenizer

SHARED = Path(os.environ.get("PICOLAB_SHARED") or "../shared")
VOCAB = 50


def patient(**known):
    return Patient(name="x", forward=lambda tokens: torch.zeros(*tokens.shape, VOCAB), vocab_size=VOCAB, **known)


def ask(law, **known):
    (finding,) = examine(patient(**known), [law])
    return finding


def sampled(function, law=None):
    return ask(law or SamplerLaw(), sampling=sampling_of(function))


# Samplers that draw a token, as in courses.


def nucleus(logits, top_p=0.95):
    probs = torch.softmax(logits, -1)
    ranked, ids = torch.sort(probs, descending=True)
    before = ranked.cumsum(0) - ranked
    kept = ranked * (before < top_p)
    kept[0] = ranked[0]
    return int(ids[torch.multinomial(kept / kept.sum(), 1)])


def nucleus_in_numpy(logits, p=0.9, temperature=1.0):
    scores = logits.double().numpy()
    if temperature == 0:
        return int(scores.argmax())
    probs = np.exp((scores - scores.max()) / temperature)
    probs /= probs.sum()
    order = np.argsort(-probs)
    count = int(np.searchsorted(np.cumsum(probs[order]), p)) + 1
    kept = order[:count]
    return int(np.random.choice(kept, p=probs[kept] / probs[kept].sum()))


def nucleus_of_rows(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Filtered logits, as transformers' warpers make them, one row at least."""
    assert logits.dim() == 2
    if temperature == 0:
        raise ValueError("`temperature` has to be a strictly positive float, but is 0")
    scores = logits / temperature
    if top_k is not None:
        scores = scores.masked_fill(scores < scores.topk(min(top_k, scores.shape[-1])).values[:, -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        ranked, ids = scores.sort(descending=False)
        drop = ranked.softmax(-1).cumsum(-1) <= 1 - top_p
        drop[:, -1:] = False
        scores = scores.masked_fill(drop.scatter(1, ids, drop), -torch.inf)
    return scores


def pure_python(logits, k=5, temperature=1.0, seed=None):
    rng = random.Random(seed)
    if temperature == 0 or k == 1:
        return int(logits.argmax())
    scores = [float(x) / temperature for x in logits]
    ranked = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    top = scores[ranked[0]]
    return rng.choices(ranked, [np.exp(scores[i] - top) for i in ranked])[0]


def greedy_only(logits):
    return logits.softmax(-1)


@pytest.mark.parametrize("sampler", [nucleus, nucleus_in_numpy, nucleus_of_rows, pure_python, greedy_only])
def test_a_healthy_sampler_breaks_no_law_however_it_is_written(sampler):
    assert sampled(sampler).status == "pass", sampled(sampler).says
    assert sampled(sampler, SamplerSettings()).status in ("pass", "skip")


def test_picolabs_own_sampler_holds():
    finding = ask(SamplerLaw(), sampling=own_sampling())
    assert finding.status == "pass" and len(finding.evidence["checked"]) == 11
    assert ask(SamplerSettings(), sampling=own_sampling()).status == "pass"


# Each wrong in one line.


def skips_the_top_tokens_mass(logits, p=0.9):
    probs, ids = logits.softmax(-1).sort(descending=True)
    total, count = 0.0, 0
    while total < p and count < len(probs) - 1:
        count += 1
        total += float(probs[count])
    kept = probs[: count + 1]
    return int(ids[torch.multinomial(kept / kept.sum(), 1)])


def counts_one_token_more(logits, p=0.9):
    probs, ids = logits.softmax(-1).sort(descending=True)
    count = int((probs.cumsum(0) < p).sum()) + (2 if p > 0.2 else 1)
    return int(ids[torch.multinomial(probs[:count] / probs[:count].sum(), 1)])


def drops_the_crossing_token(logits, p=0.9):
    probs, ids = logits.softmax(-1).sort(descending=True)
    kept = probs * (probs.cumsum(0) <= p)
    kept[0] = probs[0]
    return int(ids[torch.multinomial(kept / kept.sum(), 1)])


def never_reads_p(logits, p=0.9):
    return int(torch.multinomial(logits.softmax(-1), 1))


def forgets_to_sort_back(logits, top_p=0.9):
    probs, _ = logits.softmax(-1).sort(descending=True)
    kept = probs * (probs.cumsum(0) - probs < top_p)
    return int(torch.multinomial(kept / kept.sum(), 1))


def divides_by_zero(logits, temperature=1.0):
    return int(torch.multinomial((logits / temperature).softmax(-1), 1))


def or_in_place_of_and(logits, temperature=1.0, top_p=1.0):
    if temperature > 0.0 or top_p > 0.0:
        return int(torch.multinomial((logits / max(temperature, 1.0)).softmax(-1), 1))
    return int(logits.argmax())


def token_zero_at_zero(logits, top_p=0.9):
    probs, ids = logits.softmax(-1).sort(descending=True)
    kept = torch.zeros_like(probs).scatter(0, ids, probs * (probs.cumsum(0) - probs < top_p))
    return 0 if float(kept.sum()) == 0 else int(torch.multinomial(kept / kept.sum(), 1))


def one_k_more(logits, top_k=5):
    best = logits.topk(min(top_k + 1, len(logits)))
    return int(best.indices[torch.multinomial(best.values.softmax(-1), 1)])


def not_renormalised(logits, top_p=1.0):
    probs = logits.softmax(-1)
    ranked, ids = probs.sort(descending=True)
    return probs * torch.zeros_like(probs).scatter(0, ids, (ranked.cumsum(0) - ranked < top_p).float())


def log_of_the_wrong_base(logits):
    return (logits.log_softmax(-1) / np.log(10)).exp()


def always_the_same_seed(logits, temperature=1.0):
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=torch.Generator().manual_seed(42)))


def temperature_times(logits, temperature=1.0):
    return logits.argmax() if temperature == 0 else int(torch.multinomial((logits * temperature).softmax(-1), 1))


def zero_in_place_of_minus_infinity(logits, top_k=5):
    return logits * (logits >= logits.topk(min(top_k, len(logits))).values[-1])


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        (skips_the_top_tokens_mass, "top_p 0.0001 tokens other than the most likely"),
        (counts_one_token_more, "top_p 0.3 it keeps 2 tokens of mass 0.650, where 1 of mass 0.400 do"),
        (drops_the_crossing_token, "the fewest that do are"),
        (never_reads_p, "top p near 0 is the argmax"),
        (forgets_to_sort_back, "own: token .* is meant"),
        (divides_by_zero, "it raises RuntimeError"),
        (or_in_place_of_and, "temperature 0 is the argmax: tokens other than the most likely"),
        (token_zero_at_zero, "with top_p 0 tokens other than the most likely"),
        (one_k_more, "top k 1 is the argmax"),
        (not_renormalised, "others the rest|gets 0.400"),
        (log_of_the_wrong_base, "they sum to"),
        (always_the_same_seed, "is meant|40 seeds"),
        (temperature_times, "temperature"),
        (zero_in_place_of_minus_infinity, "top k"),
    ],
)
def test_each_broken_sampler_is_caught(sampler, says):
    finding = sampled(sampler)
    assert finding.status == "fail", finding.says
    assert re.search(says, finding.says), finding.says


def test_a_setting_that_is_never_read_is_named():
    finding = sampled(never_reads_p, SamplerSettings())
    assert finding.status == "fail" and "top_p" in finding.says and "never read" in finding.says


def test_a_model_that_leaves_no_choice_is_told_from_a_sampler_that_reads_nothing():
    def certain(tokens):
        return 1e4 * torch.nn.functional.one_hot((tokens + 1) % VOCAB, VOCAB).float()

    sick = Patient(name="x", forward=certain, vocab_size=VOCAB, trained=True, sampling=own_sampling())
    (finding,) = examine(sick, [SamplerSettings()])
    assert finding.status == "fail" and "no setting of a sampler" in finding.says


def test_a_sampler_that_raises_is_one_finding():
    with pytest.raises(Exception, match="the sampler raises ZeroDivisionError"):
        sampling_of(lambda logits: 1 // 0)


# Tokenizers.


TEXTS = ["the cat sat on the mat. " * 5, "naïve café — 3,5 €"]
NUMBERS = ["1 2 3 -17 400", "5 6"]


@pytest.mark.parametrize("name", ["bytes", "integers-0-99", "characters", "integers", "bpe-300", "gpt2"])
def test_no_tokenizer_here_breaks_a_law(name):
    if name == "gpt2" and not (SHARED / "data" / "gpt2").is_dir():
        pytest.skip("GPT-2's vocabulary is not there; PICOLAB_SHARED names the folder that holds data/gpt2")
    words = build_tokenizer(name, NUMBERS if name == "integers" else TEXTS, gpt2_dir=SHARED / "data" / "gpt2")
    sick = Patient(name="x", forward=lambda tokens: tokens, vocab_size=words.vocab_size, tokenizer=words)
    (finding,) = examine(sick, [TokenizerLaw()])
    assert finding.status == "pass", finding.says


def byte_level(lost=()):
    vocabulary = {letter: i for i, letter in enumerate(BYTE_TO_CHARACTER.values()) if i not in lost}
    vocabulary = {letter: i for i, letter in enumerate(vocabulary)}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken("<|endoftext|>", special=True)])
    return made


def test_tokenizers_of_other_libraries_are_left_alone():
    healthy = byte_level()
    healthy.encode_special_tokens = True
    finding = tokenized(healthy)
    assert finding.status == "pass", finding.says
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="<|endoftext|>")
    finding = tokenized(fast)
    assert finding.status == "pass", finding.says


def tokenized(words, **known):
    whole = Patient(name="x", forward=lambda t: t, vocab_size=100_000, tokenizer=words, **known)
    (finding,) = examine(whole, [TokenizerLaw()])
    return finding


class ByteWords:
    """A tokenizer as one writes it in an afternoon: bytes, and an end-of-text token."""

    vocab_size, special_ids, eos_id = 257, {"<|endoftext|>": 256}, 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def token_bytes(self, token):
        return bytes([token]) if token < 256 else b""


class LosesHighBytes(ByteWords):
    def encode(self, text):
        return [b for b in text.encode() if b < 128]


class MatchesControlStrings(ByteWords):
    def encode(self, text):
        parts = text.split("<|endoftext|>")
        ids = list(parts[0].encode())
        for part in parts[1:]:
            ids += [256, *part.encode()]
        return ids


class StripsSpaces(ByteWords):
    def decode(self, ids):
        return super().decode(ids).strip()


class OpensTwice(ByteWords):
    bos_id = 256

    def encode(self, text):
        return [256, 256, *text.encode()]


class StreamsHalfLetters(ByteWords):
    def stream(self, ids):
        return [self.decode([token]) for token in ids]


class Raises(ByteWords):
    def encode(self, text):
        return list(text.encode("ascii"))


class MergesUnread(ByteWords):
    vocab_size = 50_257


class DropsTheLastLetter(ByteWords):
    def encode(self, text):
        return list(text.encode())[:60]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (LosesHighBytes(), "comes back as"),
        (MatchesControlStrings(), "becomes the control token 256"),
        (StripsSpaces(), "comes back as"),
        (OpensTwice(), "begins with the opening token 256 2 times"),
        (StreamsHalfLetters(), "one after another give"),
        (Raises(), "raise UnicodeEncodeError"),
        (MergesUnread(), "were the merges read"),
        (DropsTheLastLetter(), "comes back as"),
        (byte_level(lost=range(130, 256)), "comes back as|characters are lost"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_each_broken_tokenizer_is_caught(words, says):
    finding = tokenized(words)
    assert finding.status == "fail" and re.search(says, finding.says), finding.says


def test_a_tokenizer_by_hand_is_left_alone():
    assert tokenized(ByteWords()).status == "pass"


def test_a_tokenizer_larger_than_the_model_is_another_models():
    sick = Patient(name="x", forward=lambda t: t, vocab_size=200, tokenizer=build_tokenizer("bytes"))
    (finding,) = examine(sick, [TokenizerLaw()])
    assert finding.status == "fail" and "257 tokens, and the model 200" in finding.says


# Templates.

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chatting(template, specials=("<|im_start|>", "<|im_end|>", "<s>"), bos=None, eot="<|im_end|>"):
    made = byte_level()
    made.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in specials])
    ids = made.get_vocab(with_added_tokens=True)
    return Tokenizer(
        made, kind="bpe", eot=ids[eot], bos=None if bos is None else ids[bos], chat_template=template,
        opening=() if bos is None else (ids[bos],),
    )  # fmt: skip


def templated(words):
    return ask(Template(), tokenizer=words)


def test_a_healthy_template_breaks_no_law():
    assert templated(chatting(CHATML)).status == "pass", templated(chatting(CHATML)).says
    mistral = (
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}"
    )
    assert templated(chatting(mistral, bos="<s>")).status == "pass", templated(chatting(mistral, bos="<s>")).says
    thinking = CHATML.replace(
        "{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
    )
    assert templated(chatting(thinking)).status == "pass", templated(chatting(thinking)).says


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (lambda: chatting(CHATML.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "")),
         "the generation prompt is missing: `<|im_start|>assistant`"),
        (lambda: chatting(CHATML, specials=("<|im_start|>", "<s>"), eot="<s>"), "in letters"),
        (lambda: chatting(CHATML.replace("<|im_end|>\n{% endfor", "<|im_end|><|im_end|>\n{% endfor")), "closed with token"),
        (lambda: chatting("<s><s>" + CHATML, bos="<s>"), "opens with token"),
        (lambda: chatting("<bos>" + CHATML), "`<bos>` in letters"),
        (lambda: chatting(CHATML.replace("assistant\n{% endif", "model\n{% endif")), "answers stand after"),
    ],
)  # fmt: skip
def test_each_broken_template_is_caught(words, says):
    finding = templated(words())
    assert finding.status == "fail" and says in finding.says, finding.says


def test_asking_a_sampler_moves_nobodys_random_numbers():
    torch.manual_seed(3)
    random.seed(3)
    before = torch.random.get_rng_state(), random.getstate(), copy.deepcopy(np.random.get_state())
    sampled(nucleus_in_numpy)
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == random.getstate()
    assert np.array_equal(before[2][1], np.random.get_state()[1])
