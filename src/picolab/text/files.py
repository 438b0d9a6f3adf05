"""A tokenizer on disk: two files everyone reads and one of our own.

    tokenizer.json            the vocabulary and its rules            Hugging Face's tokenizers
    tokenizer_config.json     which tokens open, close and pad        transformers.AutoTokenizer
    picolab_tokenizer.json    kind, eot, pad, keep                    ours

Folders of other people lack the third: what it would say is then read off the first two, or refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tokenizers

from picolab.errors import BadCheckpoint, BadData

EOT = "<|endoftext|>"
TOKENIZER, TOKENIZER_CONFIG, PICOLAB_TOKENIZER = "tokenizer.json", "tokenizer_config.json", "picolab_tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"

ENDS = frozenset(
    {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "</s>",
    }
)
"""Control tokens that end a text wherever they exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What the files of a tokenizer say; `keep` is the full id of each id where the vocabulary is compact.

    `opening` None is the end-of-text token alone; `bos` None is what opens, if anything does.
    """

    inner: tokenizers.Tokenizer
    kind: str
    eot: int
    pad: int | None
    keep: list[int] | None
    opening: list[int] | None = None
    ends: list[int] = field(default_factory=list)
    chat_template: str | None = None
    bos: int | None = None


def write(folder: Path, stored: Stored) -> None:
    """Write the three files into an existing or new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    eot = stored.inner.id_to_token(stored.eot)
    opens = stored.opening[0] if stored.opening else None
    bos = opens if stored.bos is None else stored.bos
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": eot if bos is None else stored.inner.id_to_token(bos),
        "eos_token": eot,
        "pad_token": eot if stored.pad is None else stored.inner.id_to_token(stored.pad),
        "clean_up_tokenization_spaces": False,
        # The letters of a control token stay letters there too, but for models that converse: transformers reads what a chat
        # template writes as it reads any text.
        "split_special_tokens": stored.chat_template is None,
    }
    if stored.chat_template is not None:
        config["chat_template"] = stored.chat_template
    own: dict[str, Any] = {"kind": stored.kind, "eot": stored.eot, "pad": stored.pad, "keep": stored.keep}
    if stored.opening not in (None, [stored.eot]) or stored.ends not in ([], [stored.eot]):
        own |= {"opening": stored.opening, "ends": stored.ends}
    if stored.bos not in (None, stored.eot, opens):
        own["bos"] = stored.bos
    _replace(folder / TOKENIZER, stored.inner.to_str())
    _replace(folder / TOKENIZER_CONFIG, json.dumps(config, indent=2) + "\n")
    _replace(folder / PICOLAB_TOKENIZER, json.dumps(own) + "\n")


def read(path: Path) -> Stored:
    """The tokenizer of a folder, or of a tokenizer.json with the two other files, if any, beside it."""
    path = path / TOKENIZER if path.is_dir() else path
    content = _text(path)
    try:
        inner = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more particular
        raise BadCheckpoint(f"`{path}` is no tokenizer: {error}", hint="the file is torn or foreign") from error
    own = path.with_name(PICOLAB_TOKENIZER)
    stored = _described(inner, own) if own.exists() else _foreign(inner, path)
    config_path = path.with_name(TOKENIZER_CONFIG)
    template = _json(config_path).get("chat_template") if config_path.exists() else None
    return replace(stored, chat_template=_template_of(template) or _template_beside(path))


def _template_of(said: Any) -> str | None:
    """A template as it is, or the one called `default` of several."""
    if isinstance(said, list):
        named = {one.get("name"): one.get("template") for one in said if isinstance(one, dict)}
        said = named.get("default")
    return said if isinstance(said, str) else None


def _template_beside(path: Path) -> str | None:
    """transformers 5 keeps the chat template in a file of its own."""
    template = path.with_name(CHAT_TEMPLATE)
    return _text(template) if template.exists() else None


def _described(inner: tokenizers.Tokenizer, path: Path) -> Stored:
    """With the file of our own; every value in it is checked against the vocabulary."""
    content = _json(path)
    try:
        kind, eot, pad, keep = (content[name] for name in ("kind", "eot", "pad", "keep"))
    except KeyError as error:
        raise BadCheckpoint(f"`{path}` does not say {error}", hint="the file is torn or of another version") from error
    known = set(inner.get_vocab(with_added_tokens=True).values())
    opening, ends, bos = content.get("opening"), content.get("ends", []), content.get("bos")
    control = [eot, *(i for i in (pad, bos) if i is not None)]
    if not _are_ids([] if opening is None else opening) or not _are_ids(ends):
        raise BadCheckpoint(
            f"`{path}` gives `opening` and `ends` as {opening!r} and {ends!r}", hint="they are lists of ids"
        )
    control += [*(opening or []), *ends]
    fits = isinstance(kind, str) and _are_ids(control) and known.issuperset(control)
    if keep is not None:
        fits = fits and _are_ids(keep) and keep == sorted(set(keep)) and max(control) < len(keep) <= len(known)
    if not fits:
        raise BadCheckpoint(f"`{path}` does not belong to the {TOKENIZER} beside it", hint="the two are saved together")
    return Stored(inner=inner, kind=kind, eot=eot, pad=pad, keep=keep, opening=opening, ends=ends, bos=bos)


def _foreign(inner: tokenizers.Tokenizer, path: Path) -> Stored:
    """Without it: the end-of-text token is the one tokenizer_config.json names, else the one all our kinds have."""
    if json.loads(inner.to_str())["model"]["type"] == "WordLevel":
        raise BadData(f"`{path}` is a word vocabulary without its {PICOLAB_TOKENIZER}", hint="copy the whole folder")
    config_path = path.with_name(TOKENIZER_CONFIG)
    config = _json(config_path) if config_path.exists() else {}
    name, pad_name, bos_name = (_content(config.get(key)) for key in ("eos_token", "pad_token", "bos_token"))
    eot = inner.token_to_id(name or EOT)
    if eot is None:
        raise BadData(
            f"`{path}` has no end-of-text token `{name or EOT}`",
            hint=f"a {TOKENIZER_CONFIG} beside it names the right one as `eos_token`",
        )
    pad = inner.token_to_id(pad_name) if pad_name is not None else None
    # What its own engine puts before a text, the post-processor knows; often nothing.
    opening = list(inner.encode("").ids)
    bos = inner.token_to_id(bos_name) if bos_name is not None else None
    added = json.loads(inner.to_str())["added_tokens"]
    ends = sorted({eot} | {token["id"] for token in added if token["special"] and token["content"] in ENDS})
    return Stored(
        inner=inner,
        kind="bpe",
        eot=eot,
        pad=None if pad == eot else pad,
        keep=None,
        opening=opening,
        ends=ends,
        bos=bos,
    )


def _are_ids(values: Any) -> bool:
    """Whether it is a list of whole numbers from 0 up."""
    return isinstance(values, list) and all(type(i) is int and i >= 0 for i in values)


def _content(token: Any) -> str | None:
    """A token as transformers writes one: its text, or a dictionary around it."""
    return token.get("content") if isinstance(token, dict) else token


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise BadCheckpoint(f"`{path}` is not JSON: {error}", hint="the file is torn") from error
    if not isinstance(content, dict):
        raise BadCheckpoint(f"`{path}` holds a {type(content).__name__}, not settings", hint="the file is foreign")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadCheckpoint(f"there is no `{path}`", hint=f"a folder with a {TOKENIZER} is meant") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"`{path}` cannot be read: {error}", hint="the file is torn or foreign") from error


def _replace(path: Path, content: str) -> None:
    """Under another name first, then renamed: a reader never sees half a file."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(content, encoding="utf-8")
    os.replace(draft, path)
