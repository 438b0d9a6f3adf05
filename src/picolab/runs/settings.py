"""What a run is asked to do: typed settings, from four layers, of which the later one wins.

    defaults  <  preset  <  YAML file  <  command line        ->  Settings  ->  settings.yaml of the run

Every layer is a tree of names. On the command line a leaf may go by its last word alone (`--lr`, `--batch-size`) or in full
(`--optimizer.lr`); names of nanoGPT and Hugging Face (`n_embd`, `block_size`, `learning_rate`) are understood at this border and
nowhere else (`runs/names.py`). No torch here: `picolab train --help` reads this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from picolab.errors import BadInput, BadSetting, nearest
from picolab.runs import names
from picolab.runs.yaml_file import read_yaml

STEPS_BY_DEFAULT = 1000


def _words(value: Any) -> Any:
    """What a person writes for nothing, and for several values, on a command line."""
    if isinstance(value, str):
        if value.lower() in ("none", "null", ""):
            return None
        if "," in value:
            return [word.strip() for word in value.strip("[]()").split(",")]
    return value


class Section(BaseModel):
    """Frozen; a name that is not a field is refused before pydantic sees it, and here as well."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(Section):
    """A preset, and any field of its architecture to change (`d_model`, `n_layers` ..: checked when the model is built)."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    preset: str = Field(
        "softmax-pico", min_length=1, description="preset to start from; `picolab ls presets` lists them"
    )

    @property
    def overrides(self) -> dict[str, Any]:
        """The architecture's fields that were set."""
        return dict(self.model_extra or {})


class DataSettings(Section):
    """Which text, cut how."""

    spec: str = Field("stories", min_length=1, description="corpus, file, folder or blend such as a=0.75,b=0.25")
    tokenizer: str = Field("auto", description="auto, bytes, characters, integers, bpe-2048, gpt2, or a tokenizer.json")
    compact_vocab: bool = Field(False, description="keep only the tokens that the corpus uses")
    context_length: Annotated[int | None, BeforeValidator(_words)] = Field(
        None, ge=2, description="tokens in a row; none: as many as the model can see"
    )
    validation: float = Field(0.05, gt=0, lt=1, description="share of documents kept for validation")
    test: float = Field(0.0, ge=0, lt=1, description="share of documents kept for a last test")
    input_dir: Annotated[str | None, BeforeValidator(_words)] = Field(None, description="folder of *.txt files")
    limit_examples: Annotated[int | None, BeforeValidator(_words)] = Field(
        None, ge=1, description="use only the first so many documents"
    )
    train_examples: Annotated[int | None, BeforeValidator(_words)] = Field(
        None,
        ge=1,
        description="of the training documents learn only the first so many; what is held out stays the same",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="which documents are kept for validation, what generators make")


class TrainingSettings(Section):
    """How long, on how much at once, on what machine part, and what happens on the way."""

    steps: Annotated[int | None, BeforeValidator(_words)] = Field(None, ge=1, description="optimizer steps")
    tokens: Annotated[int | None, BeforeValidator(_words)] = Field(
        None, ge=1, description="budget of scored tokens, instead of steps"
    )
    batch_size: int = Field(8, ge=1, description="rows in one optimizer step, over all devices and pieces together")
    accumulate: int = Field(1, ge=1, description="pieces that a step's rows are cut into; the gradient stays the same")
    recompute: bool = Field(
        False, description="compute each block's activations again in the backward pass instead of keeping them"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="type of the matrix products")
    compile: bool = Field(False, description="pass the training step through torch.compile")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="under torchrun: copies of the model, or shards of it")
    eval_every: int = Field(100, ge=0, description="steps between evaluations; 0: only at the end")
    eval_batches: Annotated[int | None, BeforeValidator(_words)] = Field(
        20, ge=1, description="validation batches in an evaluation; none: all of them"
    )
    sample_every: int = Field(0, ge=0, description="steps between samples; 0: only at the end")
    sample_prompt: str | None = Field(
        None, description="how samples begin; none: as the first validation document does"
    )
    sample_tokens: int = Field(48, ge=0, description="new tokens in a sample; 0: no samples")
    checkpoint_every: int = Field(0, ge=0, description="steps between checkpoints; 0: only at the end")
    keep: int = Field(2, ge=1, description="newest checkpoints kept, beside the best one")
    track: Literal["none", "tensorboard"] = Field(
        "none", description="event files beside metrics.jsonl, for TensorBoard"
    )
    patience: int = Field(0, ge=0, description="stop after so many evaluations without improvement; 0: never")


class OptimizerSettings(Section):
    """AdamW, its schedule, and the clip."""

    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    min_lr: Annotated[float | None, BeforeValidator(_words)] = Field(
        None, ge=0, description="learning rate at the end; none: a tenth of `lr`"
    )
    warmup: Annotated[int | None, BeforeValidator(_words)] = Field(
        None, ge=0, description="steps until `lr` is reached; none: a tenth of the run, at most 100"
    )
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], BeforeValidator(_words)
    ] = Field((0.9, 0.95), description="how slowly AdamW's two averages forget")
    weight_decay: float = Field(0.1, ge=0, description="decay of matrices; vectors never decay")
    clip: float = Field(1.0, ge=0, description="largest global gradient norm; 0: no clipping")
    eps: float = Field(1e-8, gt=0, description="AdamW's term against division by zero")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_lr is not None and self.min_lr > self.lr:
            raise BadSetting(
                f"`optimizer.min_lr` {self.min_lr:g} is above `optimizer.lr` {self.lr:g}",
                hint="the learning rate falls from `lr` to `min_lr`: lower `min_lr`, or leave it out",
            )
        return self


class DpoSettings(Section):
    """Preference training of a model that is there: `base` makes a run one of these."""

    base: Annotated[str | None, BeforeValidator(_words)] = Field(
        None, description="model to begin with, a run or checkpoint"
    )
    reference: Annotated[str | None, BeforeValidator(_words)] = Field(
        None, description="frozen model that rewards are measured against; none: the base"
    )
    beta: float = Field(
        0.1, description="how much a nat of log ratio is worth; more keeps the model closer to its reference"
    )
    variant: Literal["dpo", "ipo"] = Field("dpo", description="dpo, or ipo: a margin to reach instead of certainty")
    label_smoothing: float = Field(0.0, description="share of pairs taken to be in the wrong order, below 0.5")
    per_token: bool = Field(False, description="divide log ratios by the response's length before they are compared")
    imitation: float = Field(0.0, description="weight of the chosen responses' own loss a token (RPO)")
    pairs: int = Field(3200, ge=1, description="pairs made to learn from")
    held_out: int = Field(400, ge=1, description="pairs made of held-out documents")
    prompt_tokens: Annotated[int | None, BeforeValidator(_words)] = Field(
        None, ge=1, description="tokens of a prompt that is made, at most; none: 64, or what the model reads"
    )
    response_tokens: Annotated[int | None, BeforeValidator(_words)] = Field(
        None, ge=1, description="tokens of a response that is made, at most; none: 64, or half of what the model reads"
    )
    kinds: Annotated[tuple[str, ...], BeforeValidator(lambda value: _listed(_words(value)))] = Field(
        (), description="ways to make worse responses, divided by commas, twice for twice as many; none: all"
    )


def _listed(value: Any) -> Any:
    """One word is a list of one."""
    return () if value is None else (value,) if isinstance(value, str) else value


class Settings(Section):
    """Everything a run is asked to do. `settings.yaml` in the run's folder is this."""

    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    dpo: DpoSettings = Field(default_factory=DpoSettings)
    seed: int = Field(0, ge=0, lt=2**63, description="reaches init, data order, dropout and samples")
    name: Annotated[str | None, BeforeValidator(_words)] = Field(
        None, description="the run's name; none: model and data"
    )
    out: Annotated[str | None, BeforeValidator(_words)] = Field(
        None, description="the run's folder; none: runs/<date>_<name>"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        t = self.training
        if t.steps is not None and t.tokens is not None:
            raise BadSetting(
                f"`training.steps` {t.steps} and `training.tokens` {t.tokens} are both set",
                hint="give the length of the run once, in steps or in tokens",
            )
        if t.batch_size % t.accumulate:
            raise BadSetting(
                f"`training.batch_size` {t.batch_size} cannot be cut into `training.accumulate` {t.accumulate} equal pieces",
                hint="batch_size counts the rows of a whole step: make it a multiple of accumulate",
            )
        if self.data.validation + self.data.test >= 1:
            raise BadSetting(
                f"`data.validation` {self.data.validation:g} and `data.test` {self.data.test:g} leave nothing to train on",
                hint="their sum must stay below 1",
            )
        return self

    def changed(self, **sections: Mapping[str, Any] | Any) -> Settings:
        """A copy with some settings changed and everything checked again: `changed(training={"steps": 5}, seed=1)`."""
        tree = self.model_dump(exclude_unset=False)
        for name, value in sections.items():
            tree[name] = {**tree[name], **value} if isinstance(value, Mapping) else value
        return _validated(tree)


def resolve(
    preset: str | None = None,
    config_file: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings out of the layers; values may be strings, as a command line gives them."""
    tree: dict[str, Any] = {}
    if preset is not None:
        _lay(tree, {"model.preset": preset})
    if config_file is not None:
        _lay(tree, names.flat(_read_yaml(Path(config_file))))
    _lay(tree, names.flat(overrides or {}))
    length = tree.setdefault("training", {})
    if length.get("steps") is None and length.get("tokens") is None:
        length["steps"] = STEPS_BY_DEFAULT
    return _validated(tree)


def load_settings(path: Path) -> Settings:
    """The settings saved in a run."""
    return resolve(config_file=path)


def dump_settings(settings: Settings) -> str:
    """Settings as YAML, every default written out, in an order fit to read.

    `out` is left empty: a folder is where a run lies, not what it does, and the file must serve to repeat the run elsewhere.
    """
    tree = settings.model_dump(mode="json") | {"out": None}
    if settings.dpo.base is None:  # what the run is not is not said
        del tree["dpo"]
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def differences(one: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
    """Dotted names whose values differ, with both values; `out` and `name` say where, not what."""
    a, b = (names.flat(settings.model_dump(mode="json")) for settings in (one, other))
    return {
        name: (a.get(name), b.get(name))
        for name in [*a, *(name for name in b if name not in a)]
        if a.get(name) != b.get(name) and name not in ("out", "name")
    }


def _lay(tree: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put one layer on top of those below; the length of a run, in steps or tokens, is one choice of its layer."""
    length = {"training.steps": "tokens", "training.tokens": "steps"}
    known = known_settings()
    seen: dict[str, str] = {}
    for given, value in layer.items():
        name = names.full(given, known)
        if name in seen:
            raise BadSetting(f"`{given}` and `{seen[name]}` are the same setting, `{name}`", hint="give it once")
        seen[name] = given
        *sections, leaf = name.split(".")
        node = tree.setdefault(sections[0], {}) if sections else tree
        node[leaf] = names.scalar(value) if sections == ["model"] and leaf != "preset" else value
    for name, rival in length.items():
        if name in seen and layer[seen[name]] is not None and f"training.{rival}" not in seen:
            tree["training"].pop(rival, None)


def known_settings() -> dict[str, str]:
    """Every dotted name and what it means; the architecture's own fields, which the model checks, are not among them."""
    known: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            known |= {f"{name}.{leaf}": inner.description or "" for leaf, inner in section.model_fields.items()}
        else:
            known[name] = field.description or ""
    return known


def _validated(tree: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise _as_bad_setting(error) from error


def _as_bad_setting(error: ValidationError) -> BadSetting:
    """The first complaint of pydantic, as one sentence with the value and what the setting means."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path[:2])
    says = first["msg"][0].lower() + first["msg"][1:]
    meaning = known_settings().get(name) or known_settings().get(path[0], "")
    if first["type"] == "literal_error":
        choices = [choice.strip(" '") for choice in first["ctx"]["expected"].replace(" or ", ",").split(",")]
        return BadSetting(f"`{name}` is `{first['input']}`", hint=nearest(str(first["input"]), choices))
    return BadSetting(f"`{name}` is {first['input']!r}, and {says.replace('input', 'it')}", hint=f"`{name}`: {meaning}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise BadInput(f"there is no settings file `{path}`", hint="a run's own is runs/<run>/settings.yaml") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadInput(f"`{path}` holds a {type(content).__name__}, not settings", hint="one `name: value` a line")
    return content
