"""A plan for a person: what it is about, the memory line by line, time and money, disk, what else would fit, the commands."""

from __future__ import annotations

from typing import Any

from picolab.cli import console

NAMES = {"ddp": "ddp, the whole model on each device", "fsdp": "fsdp, a shard of the model on each device"}


def tell(made: Any) -> None:
    """Print the plan."""
    out = console.results(as_json=False)

    def say(line: Any = "") -> None:
        out.print(line, soft_wrap=True)

    for part in (_about, _memory, _ways, _time, _disk):
        for line in part(made):
            say(line)
        say()
    for remark in made.remarks:
        say(f"note  {remark}")
    if made.remarks:
        say()
    machines = made.commands.machines
    say("start" if machines == 1 else f"start, on each of {machines} machines")
    say(made.commands.start)
    say("go on after a machine has stopped")
    say(made.commands.resume)


def _about(made: Any) -> list[str]:
    asked, shape, way = made.request, made.shape, made.way
    heads = f"{shape.n_heads} heads of {shape.head_dim}"
    if shape.n_kv_heads != shape.n_heads:
        heads += f" over {shape.n_kv_heads}"
    pieces = "1 piece" if way.layout.pieces == 1 else f"{way.layout.pieces} pieces"
    spread = "" if asked.devices == 1 else f"{asked.devices} devices x "
    how = [made.dtype]
    if asked.devices > 1:
        how.append(NAMES[way.layout.strategy])
    if way.layout.recompute:
        how.append("blocks recomputed")
    return [
        f"{shape.architecture} of {shape.parameters:,} parameters, {_many(asked.tokens)} tokens, "
        f"{asked.devices} x {asked.device.name}",
        f"shape   {shape.n_layers} blocks of {shape.d_model} ({shape.d_model / shape.n_layers:.0f} wide to 1 deep), {heads}, "
        f"d_ff {shape.d_ff},",
        f"        vocabulary {shape.vocab_size:,}, {'tied' if shape.tied else 'untied'}",
        f"step    {made.batch_tokens:,} tokens: {spread}{pieces} x {way.rows} {_rows(way.rows)} x {made.length:,}",
        f"        {', '.join(how)}",
    ]


def _memory(made: Any) -> list[str]:
    worst, device = made.way.worst, made.request.device
    verdict = "fits" if made.way.fits else "DOES NOT FIT"
    lines = [f"memory of each device at its worst, {worst.says}"]
    lines += [f"  {line.name:12}{_size(line.n_bytes):>9}  {line.says}" for line in worst.lines]
    room = f"{_size(device.usable)} usable of {_size(device.n_bytes)}"
    return [*lines, f"  {'together':12}{_size(worst.n_bytes):>9}  {verdict} into {room}"]


def _ways(made: Any) -> list[str]:
    lines = ["other ways"] if made.other else []
    for way in made.other:
        words = [way.layout.strategy] if made.request.devices > 1 else []
        words.append(f"{way.layout.pieces} {'piece' if way.layout.pieces == 1 else 'pieces'}")
        words.append(f"{way.rows} {_rows(way.rows)} each")
        words.append("blocks recomputed" if way.layout.recompute else "blocks kept")
        lines.append(f"  {_size(way.worst.n_bytes):>9}  {', '.join(words)}: {'fits' if way.fits else 'does not fit'}")
    if not made.way.fits:
        lines.append(_advice(made))
    return lines


def _advice(made: Any) -> str:
    """What would help where nothing fits."""
    if made.request.pieces is not None or made.request.recompute is not None or made.request.strategy != "auto":
        return "  leave out --accumulate, --recompute and --strategy to see whether another way fits"
    if made.way.worst.name == "start":
        return "  nothing fits: fsdp shards a model that is first whole on each device (--device)"
    if made.request.device.kind == "cuda":
        return "  nothing fits: more devices (--gpus), larger ones (--device), shorter rows (--length)"
    return "  nothing fits: a smaller model, or shorter rows (--length)"


def _time(made: Any) -> list[str]:
    asked, device, peak = made.request, made.request.device, made.request.device.flops[made.dtype]
    each = made.flops / asked.tokens
    assumed = "assumed, a run's first minute tells" if asked.mfu is None else "as given"
    money = "; --price tells the cost" if made.money is None else f" x {asked.price:g} = {made.money:,.0f}"
    return [
        f"time    {_long(made.seconds)}: {made.steps:,} steps of {_seconds(made.step_seconds)}, "
        f"{asked.tokens / made.seconds:,.0f} tokens/s",
        f"  operations  {asked.tokens:.3g} tokens x {each:.3g}: 6 a matrix entry, and attention",
        *(["              and a third more to compute the blocks again"] if made.way.layout.recompute else []),
        f"  peak        {asked.devices} x {peak / 1e12:.4g} TFLOP/s, {made.dtype}, by {device.source}",
        f"  MFU         {made.mfu:g}, {assumed}",
        f"  cost        {made.device_hours:,.1f} device hours{money}",
    ]


def _disk(made: Any) -> list[str]:
    numbers, ids = made.shape.parameters, 2 if made.shape.vocab_size <= 2**16 else 4
    return [
        f"disk    checkpoints {_size(made.checkpoints_bytes)}: {numbers:,} x 12 B, up to four at a time",
        f"        data {_size(made.data_bytes)}: {_many(made.request.tokens)} tokens x {ids} B, each read once",
        f"host    {_size(made.host_bytes)} of each machine's own memory while a checkpoint is written",
    ]


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e12:.1f} TB" if n_bytes >= 999.5e9 else console.size(n_bytes)


def _rows(n: int) -> str:
    return "row" if n == 1 else "rows"


def _long(seconds: float) -> str:
    return console.duration(seconds) if seconds < 2 * 86400 else f"{seconds / 86400:,.1f} days"


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _many(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.4g} {name}"
    return f"{value:.4g}"
