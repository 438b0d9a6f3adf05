"""`picolab plan`: what a training will take, before anything is started. Arithmetic, each line with its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import COMMON, Json, Out, Set, settings_given
from picolab.errors import BadInput, BadSetting, UnknownName


def plan(
    *,
    params: Annotated[
        str | None, Parameter(help="How many parameters, such as 350M or 1B: a Llama of that size is taken.")
    ] = None,
    model: Annotated[str | None, Parameter(help="A preset instead; its fields are flags, as in `train`.")] = None,
    tokens: Annotated[str, Parameter(help="Tokens to learn from, such as 20B.")],
    gpus: Annotated[int, Parameter(help="Devices, over all machines.")] = 1,
    gpus_per_machine: Annotated[int, Parameter(help="Devices in one machine.")] = 8,
    device: Annotated[str, Parameter(help="h200, h100, a100, a10, rtx4090, or cpu: this one, measured.")] = "h100",
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"], Parameter(help="Copies of the model or shards of it; auto: what fits.")
    ] = "auto",
    batch_tokens: Annotated[str | None, Parameter(help="Tokens in a step. [default: for about 40,000 steps]")] = None,
    length: Annotated[
        int | None,
        Parameter(name=["--length", "--context-length"], help="Tokens in a row. [default: the model's]"),
    ] = None,
    vocab_size: Annotated[str | None, Parameter(help="Words. [default: 32000, or the preset's]")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], Parameter(help="Type of the products; auto: the faster.")
    ] = "auto",
    accumulate: Annotated[int | None, Parameter(help="Pieces of a step. [default: the fewest that fit]")] = None,
    recompute: Annotated[
        bool | None, Parameter(help="Compute blocks again in the backward pass. [default: if needed]")
    ] = None,
    mfu: Annotated[float | None, Parameter(help="Share of the peak that products get. [default: 0.35]")] = None,
    price: Annotated[float | None, Parameter(help="What one device costs an hour.")] = None,
    data: Annotated[str, Parameter(help="The corpus that the commands name.")] = "my_text",
    set_: Set = None,
    seed: Annotated[int, Parameter(group=COMMON, help="Changes nothing here: a plan is arithmetic.")] = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Say what a training will take: memory, time, money, disk, and the commands.

    Memory is counted as this picolab trains, and tested against real steps on a
    CPU. Time is the model's operations over the devices' peak and an assumed MFU.
    """
    from picolab.measure.planning.plan import Request, count
    from picolab.measure.planning.plan import plan as make

    if length is not None and length < 2:
        raise BadSetting(f"`--length` {length} leaves nothing to predict", hint="2048 is usual")
    changes = _model_fields(settings_given(set_))
    vocabulary = None if vocab_size is None else round(count(vocab_size, "vocab-size"))
    shape, preset, repeated = _shape(params, model, changes, vocabulary, length)
    made = make(
        Request(
            shape=shape,
            preset=preset,
            changes=repeated,
            tokens=count(tokens, "tokens"),
            devices=gpus,
            device=_device(device),
            strategy=strategy,
            batch_tokens=None if batch_tokens is None else round(count(batch_tokens, "batch-tokens")),
            length=length,
            dtype=dtype,
            mfu=mfu,
            price=price,
            pieces=accumulate,
            recompute=recompute,
            per_machine=gpus_per_machine,
            data=data,
        )
    )
    document = _document(made)
    if out is not None:
        console.save_json(Path(out), document)
    if as_json:
        console.emit(document)
    else:
        from picolab.cli.plan_show import tell

        tell(made)
    return 0


def _shape(
    params: str | None, model: str | None, changes: dict[str, Any], vocabulary: int | None, length: int | None
) -> tuple[Any, str, dict[str, Any]]:
    """The shape, the preset to start from, and the fields that a command must repeat."""
    from picolab.measure.planning.plan import count
    from picolab.measure.planning.shape import VOCAB, llama_of

    if (params is None) == (model is None):
        given = "neither is given" if params is None else "both are given"
        raise BadInput(f"`--params` or `--model`: {given}", hint="say what is to be trained: --params 1B")
    if model is not None:
        from picolab.measure.planning.preset import preset_shape

        sizes = {} if vocabulary is None else {"vocab_size": vocabulary}
        if length is not None:
            sizes["context_length"] = length
        return preset_shape(model, {**sizes, **changes}), model, changes
    if changes:
        raise BadSetting(
            f"`--{next(iter(changes)).replace('_', '-')}` beside `--params`",
            hint="a size picks the shape: name a preset with --model",
        )
    assert params is not None
    shape = llama_of(count(params, "params"), vocab_size=vocabulary or VOCAB, context_length=length or 2048)
    fields = {name: getattr(shape, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    return shape, "llama3-lite", fields


def _model_fields(given: dict[str, str]) -> dict[str, Any]:
    """The settings that change a shape; any other has no place in a plan."""
    from picolab.runs import names
    from picolab.runs.settings import known_settings

    fields = {}
    for spelled, value in given.items():
        section, _, leaf = names.full(spelled, known_settings()).rpartition(".")
        if section != "model" or leaf == "preset":
            raise BadSetting(
                f"`{spelled}` changes no plan",
                hint="a plan knows the flags of `picolab plan --help` and the model's fields",
            )
        fields[leaf] = names.scalar(value)
    return fields


def _device(name: str) -> Any:
    from picolab.measure.planning.hardware import GPUS

    if name == "cpu":
        from picolab.measure.planning.here import this_cpu

        return this_cpu()
    if name not in GPUS:
        raise UnknownName("device", name, [*GPUS, "cpu"])
    return GPUS[name]


def _document(made: Any) -> dict[str, Any]:
    """The plan as data; the request without what the plan says again."""
    worst = made.way.worst
    return {
        "parameters": made.shape.parameters,
        "shape": made.shape,
        "tokens": made.request.tokens,
        "devices": made.request.devices,
        "device": made.request.device,
        "dtype": made.dtype,
        "step": {
            "tokens": made.batch_tokens,
            "rows": made.rows,
            "length": made.length,
            "seconds": made.step_seconds,
            "strategy": made.way.layout.strategy if made.request.devices > 1 else None,
            "pieces": made.way.layout.pieces,
            "rows_of_a_piece": made.way.rows,
            "recompute": made.way.layout.recompute,
        },
        "steps": made.steps,
        "memory": {
            "fits": made.way.fits,
            "bytes": worst.n_bytes,
            "usable_bytes": made.request.device.usable,
            "moment": worst.name,
            "says": worst.says,
            "lines": worst.lines,
        },
        "other_ways": [
            {
                "strategy": way.layout.strategy,
                "pieces": way.layout.pieces,
                "recompute": way.layout.recompute,
                "bytes": way.worst.n_bytes,
                "fits": way.fits,
            }
            for way in made.other
        ],
        "time": {
            "flops": made.flops,
            "mfu": made.mfu,
            "mfu_is_assumed": made.request.mfu is None,
            "seconds": made.seconds,
            "tokens_per_second": made.request.tokens / made.seconds,
            "device_hours": made.device_hours,
        },
        "money": made.money,
        "disk": {
            "checkpoint_bytes": made.checkpoint_bytes,
            "checkpoints_bytes": made.checkpoints_bytes,
            "data_bytes": made.data_bytes,
        },
        "host_bytes": made.host_bytes,
        "remarks": made.remarks,
        "commands": made.commands,
    }
