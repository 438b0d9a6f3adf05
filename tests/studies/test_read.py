"""A study file is understood under every name people use, and argued with where it makes no sense."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from picolab.errors import BadInput, BadSetting, PicolabError, UnknownName
from picolab.recipes.studies import SHIPPED, shipped
from picolab.runs.settings import resolve
from picolab.studies.points import check_size, count_of, grid, points_of, settings_of, trials_of
from picolab.studies.read import read_study, study_of
from picolab.studies.search import check_points
from picolab.studies.study import MOST_RUNS
from picolab.studies.sweep import sweep


def test_names_of_the_command_line_are_understood_and_kept_in_full(make_study: Any) -> None:
    study = make_study(axes={"learning_rate": [0.1, "1e-3"], "num_hidden_layers": [1, 2]})
    assert [axis.name for axis in study.axes] == ["optimizer.lr", "model.n_layers"]
    assert study.axes[0].values == (0.1, 0.001)


@pytest.mark.parametrize(
    ("change", "error", "message", "hint"),
    [
        ({"axes": {"lrr": [1, 2]}}, UnknownName, "no setting is called `lrr`", "did you mean `lr`?"),
        ({"axes": {"model": ["lstm", "gpt-oss"]}}, BadSetting, "`model.preset` is set twice", "a setting is fixed, or one axis"),
        ({"settings": {"model": "lstn"}}, UnknownName, "no preset is called `lstn`", "did you mean `lstm`?"),
        ({"axes": {}}, BadSetting, "the study has no axis, so the grid is empty", "`axes: {lr: [0.001, 0.002]}`"),
        ({"axes": {"lr": []}}, BadSetting, "axis `optimizer.lr` has no value, so the grid is empty", None),
        ({"axes": {"lr": [1, 1]}}, BadSetting, "axis `optimizer.lr` has the value 1 twice", "seeds repeat a point: `seeds: 3`"),
        ({"axes": {"lr": {"low": 1, "high": 2}}}, BadSetting, "axis `optimizer.lr` is a range, and a grid needs values", None),
        ({"axes": {"lr": 0.1}}, BadSetting, "axis `optimizer.lr` is 0.1, not a list", "`[0.1]` has one value"),
        ({"axes": {"n_heads": [1, 2]}}, UnknownName, "no setting of these models is called `n_heads`", None),
        ({"axes": {"sampling.p": [1]}}, UnknownName, "no way of sampling is called `p`", None),
        ({"axes": {"seed": [1, 2]}}, BadSetting, "`seed` is set by the study itself", "list `seeds` instead"),
        ({"axes": {"lr": None}}, BadSetting, "axis `optimizer.lr` is empty, not a list", None),
        ({"axes": {"lr": [0.1, True]}}, BadSetting, "axis `optimizer.lr` mixes numbers with true or false: 0.1, true", None),
        ({"axes": {"lr": [0.1, None]}}, BadSetting, "axis `optimizer.lr` has the value empty", None),
        ({"axes": {"lr": {"values": [1], "only": 3}}}, BadSetting, "`only` is 3, not a list", "`only: [..]`, or leave it out"),
        ({"also": 3}, BadSetting, "`also` is 3, not a list", "`also: [..]`, or leave it out"),
        ({"axes": {"lr": {"low": 1, "high": 2, "log": "no!"}}}, BadSetting, "`log` of axis `optimizer.lr` is 'no!'", None),
        ({"study": "a/b"}, BadSetting, "`study` is 'a/b', not a name", None),
        ({"study": ["a"]}, BadSetting, "`study` is ['a'], not a name", None),
        ({"seeds": []}, BadSetting, "`seeds` is []", "how many, `seeds: 3`, or which, `seeds: [0, 4, 7]`"),
        ({"seeds": [1, 1]}, BadSetting, "`seeds` [1, 1] names one twice", None),
        ({"method": "gird"}, BadSetting, "`method` is `gird`", "did you mean `grid`?"),
        ({"method": "random"}, BadSetting, "`method: random` does not say how many `points`", "`points: 20`"),
        ({"points": 3}, BadSetting, "`points` is 3, and a grid has all its points", None),
        ({"goal": "los"}, BadSetting, "`goal` is `los`", "did you mean `loss`?"),
        ({"axis": {}}, UnknownName, "no part of a study is called `axis`", "did you mean `axes`?"),
        ({"settings": {"steps": 0}}, BadSetting, "`training.steps` is 0, and it should be greater than or equal to 1", None),
        ({"settings": {}}, BadSetting, "the study does not say how long its runs are", None),
        (
            {"axes": {"batch_size": [1, 2]}, "settings": {"steps": 3, "eval_batches": 2}}, BadSetting,
            "`eval_batches` 2 with axis `batch_size` scores every point on other text", None,
        ),
    ],
)  # fmt: skip
def test_a_study_that_makes_no_sense_is_refused_with_the_nearest_right_one(
    change: dict[str, Any], error: type[PicolabError], message: str, hint: str | None, content: dict[str, Any]
) -> None:
    with pytest.raises(error) as refused:
        study_of({**content, **change})
    assert str(refused.value) == message
    if hint is not None:
        assert refused.value.hint == hint


def test_a_preset_on_an_axis_that_nobody_knows_is_named(content: dict[str, Any]) -> None:
    settings = {name: value for name, value in content["settings"].items() if name not in ("model", "hidden")}
    with pytest.raises(UnknownName, match="no preset is called `lstn`"):
        study_of({**content, "settings": settings, "axes": {"model": ["lstn", "gpt-oss"]}})


def test_a_file_that_is_not_there_not_yaml_or_no_study(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no study"):
        read_study(tmp_path / "none.yaml")
    for text in ("a: [", "- 1\n- 2\n"):
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=r"is not YAML|holds no study"):
            read_study(tmp_path / "bad.yaml")


def test_a_name_that_stands_twice_is_not_taken_from_the_second(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("settings: {steps: 3}\naxes:\n  lr: [0.1, 0.2]\n  lr: [0.3]\n", encoding="utf-8")
    with pytest.raises(BadSetting, match="twice.yaml` says `lr` twice, at line 4"):
        read_study(path)
    path.write_text("settings: {steps: 3}\naxes: {lr: [0.1, 0.2]}\nseeds: 2\nseeds: 3\n", encoding="utf-8")
    with pytest.raises(BadSetting, match="says `seeds` twice, at line 4"):
        read_study(path)
    path.write_text("training:\n  steps: 3\n  steps: 30\n", encoding="utf-8")
    with pytest.raises(BadSetting, match="says `steps` twice, at line 3"):
        resolve(config_file=path)


def test_what_is_asked_of_each_value_names_an_axis(make_study: Any) -> None:
    assert make_study(each=["n_layers"]).conditions == ("model.n_layers",)
    with pytest.raises(BadSetting, match="`each` is `layers`"):
        make_study(each=["layers"])
    with pytest.raises(BadSetting, match="`also` is `speed`"):
        make_study(also=["speed"])
    with pytest.raises(BadSetting, match="`cost` is `money`"):
        make_study(cost="money")


def test_many_runs_must_be_meant(make_study: Any) -> None:
    study = make_study(axes={"lr": [i / 1e5 for i in range(1, 201)], "weight_decay": [i / 100 for i in range(60)]})
    assert count_of(study) == 24_000 > MOST_RUNS
    with pytest.raises(BadInput, match="the study asks for 24,000 runs, more than 10,000") as refused:
        check_size(study, meant=False)
    assert refused.value.hint is not None and "--yes" in refused.value.hint
    check_size(study, meant=True)


def test_what_a_model_does_not_have_makes_no_second_point(content: dict[str, Any]) -> None:
    settings = {"data": "numeric", "steps": 2, "d_model": 8, "hidden": 8, "d_ff": 8}
    axes = {"model": ["lstm", "qwen2-pico"], "n_layers": {"values": [1, 2], "only": "lstm"}, "n_heads": [2, 4]}
    study = study_of({**content, "settings": settings, "axes": axes})
    points = grid(study)
    assert [tuple(point.values()) for point in points] == [
        ("lstm", 1, None), ("lstm", 2, None), ("qwen2-pico", None, 2), ("qwen2-pico", None, 4),
    ]  # fmt: skip
    lstm, transformer = (settings_of(study, point, 0, Path(), "x") for point in (points[1], points[2]))
    assert lstm.model.overrides == {"d_model": 8, "hidden": 8, "n_layers": 2}
    assert transformer.model.overrides == {"d_model": 8, "d_ff": 8, "n_heads": 2}


def test_sizes_that_do_not_go_together_are_refused_before_anything_is_trained(content: dict[str, Any]) -> None:
    settings = {"model": "qwen2-pico", "data": "numeric", "steps": 2, "d_model": 32}
    study = study_of({**content, "settings": settings, "axes": {"n_heads": [4, 5]}})
    with pytest.raises(BadSetting, match="point n_heads 5: "):
        check_points(study)


@pytest.mark.parametrize("method", ["grid", "random", "tpe"])
@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"lr": [0.001, "fast"]}, "point lr fast: `optimizer.lr` is 'fast', and it should be a valid number"),
        ({"lr": [0.001, float("nan")]}, "point lr nan: `optimizer.lr` is nan, and it should be a finite number"),
        ({"n_layers": [1, 1.5]}, "point n_layers 1.5: `n_layers` is 1.5, not int"),
        ({"sampling.top_p": [0.5, 7]}, "point top_p 7: "),
    ],
)
def test_a_value_that_is_none_of_its_setting_is_refused_before_anything_is_written(
    method: str, axis: dict[str, Any], message: str, make_study: Any, tmp_path: Path
) -> None:
    """The first values run well: half a study would be made before the bad one is met."""
    more = {} if method == "grid" else {"method": method, "points": 2}
    with pytest.raises(BadSetting, match=f"^{re.escape(message)}"):
        sweep(make_study(axes=axis, judges=["sampling"], goal="loss", **more), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "axes"),
    [({}, {"data": ["stories", "storis"]}), ({"data": "storis"}, {"lr": [0.1, 0.2]})],
)
def test_data_that_is_not_there_is_refused_before_anything_is_written(
    settings: dict[str, Any], axes: dict[str, Any], tmp_path: Path
) -> None:
    """Else the corrected study would have to be given another folder."""
    study = study_of({"settings": {"model": "lstm", "tokenizer": "bytes", "steps": 2, **settings}, "axes": axes})
    with pytest.raises(UnknownName, match="no file, folder or corpus is called `storis`"):
        sweep(study, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_range_of_a_whole_number_is_told_how_to_say_so(method: str, make_study: Any) -> None:
    with pytest.raises(BadSetting, match=r"not int") as refused:
        check_points(make_study(axes={"n_layers": {"low": 1, "high": 3}}, method=method, points=3))
    assert refused.value.hint == "it takes whole numbers: `n_layers: {low: .., high: .., integer: true}`"
    check_points(make_study(axes={"n_layers": {"low": 1, "high": 3, "integer": True}}, method=method, points=3))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "study: a\nsettings:\n\tmodel: lstm\n",
            "is not YAML at line 3",
            "a tab stands there: YAML is indented with spaces",
        ),
        ("study: {a\n", "is not YAML at line 2", "one `name: value` a line, sections indented"),
        ("", "holds no study", "a study has `settings`, `axes` and `seeds`"),
        ("- a\n- b\n", "holds no study", "a study has `settings`, `axes` and `seeds`"),
        (None, "cannot be read: is a directory", "a text file that you may read is meant"),
    ],
)
def test_a_file_that_is_no_study_is_told_where_and_why(
    text: str | None, message: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.mkdir() if text is None else path.write_text(text, encoding="utf-8")
    for read in (
        (read_study, lambda path: resolve(config_file=path)) if text and "not YAML" in message else (read_study,)
    ):
        with pytest.raises(PicolabError, match=message) as refused:
            read(path)
        assert refused.value.hint == hint


def test_points_that_differ_in_sampling_only_share_their_runs(make_study: Any) -> None:
    study = make_study(axes={"lr": [0.1, 0.2], "sampling.top_p": [0.5, 1.0]}, judges=["sampling"], goal="sample_gap")
    trials = trials_of(study, grid(study))
    assert [trial.run for trial in trials if trial.seed == 0] == [
        "p0000_seed-0",
        "p0000_seed-0",
        "p0002_seed-0",
        "p0002_seed-0",
    ]
    assert len({trial.name for trial in trials}) == 8


def test_drawn_points_are_the_same_for_the_same_seed_and_stay_in_their_range(make_study: Any) -> None:
    axes = {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "n_layers": {"low": 1, "high": 3, "integer": True}}
    first, again = (points_of(make_study(axes=axes, method="random", points=30)) for _ in range(2))
    assert first == again != points_of(make_study(axes=axes, method="random", points=30, search_seed=1))
    rates = sorted(float(point["optimizer.lr"]) for point in first)  # type: ignore[arg-type]
    assert rates[0] >= 1e-4 and rates[-1] <= 1e-1
    assert 5 <= sum(rate < 10**-2.5 for rate in rates) <= 25  # about half lie below the middle of the logarithm
    assert {point["model.n_layers"] for point in first} == {1, 2, 3}
    with pytest.raises(BadInput, match="the axes have no 5 different points, 4 were found"):
        points_of(make_study(method="random", points=5))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_can_be_built_in_both_sizes(name: str) -> None:
    for tiny in (False, True):
        study = shipped(name, tiny=tiny)
        assert study.name == name
        check_points(study)
        points = points_of(study)
        assert points
        for point in points:
            settings_of(study, point, study.seeds[0], Path(), "x")
    assert count_of(shipped(name, tiny=True)) < count_of(shipped(name))


def test_a_study_without_a_tiny_version_says_so(content: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match="this study has no tiny version"):
        study_of(content, tiny=True)
