"""Reading a scenario: by name, path or dict, with dotted overrides; a bad one is explained."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sgym.config import Model, Scenario
from sgym.errors import ScenarioError

PRESETS: dict[str, dict[str, Any]] = {
    "paper_v2": {"classes": [{"token_time": 0.2, "alpha": 2.5}]},
    "paper_v1": {"classes": [{"token_time": 0.05, "alpha": 2.5}], "origin": "first_token"},
    "fast_reader": {"classes": [{"token_time": 1 / 30, "alpha": 2.5}]},
    "chat": {"classes": [{"token_time": 0.1, "first_delay": 1.0, "alpha": 2.5}]},
    "mixed": {
        "classes": [
            {"name": "reader", "share": 0.6, "token_time": 0.2, "alpha": 2.5},
            {"name": "agent", "share": 0.3, "token_time": 1 / 30, "alpha": 2.5, "weight": 2.0},
            {"name": "batch", "share": 0.1, "token_time": 0.5, "first_delay": 30.0, "alpha": 0.5},
        ]
    },
}
"""Metrics by name: `slo: paper_v2` in a scenario stands for this section."""

KINDS = {"model_type": "must be a section of keys and values", "tuple_type": "must be a list"}
"""What to say of a value of the wrong kind, where pydantic speaks of Python."""


def builtin_scenarios() -> dict[str, Path]:
    """Scenarios that come with sgym: name -> file."""
    here = Path(__file__).parent
    for folder in (here / "envs_configs", here.parent / "envs_configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def load_scenario(
    source: "str | Path | Mapping[str, Any] | Scenario", overrides: Mapping[str, Any] | None = None
) -> Scenario:
    """Read and check a scenario.

    Args:
        source: name of a shipped scenario, path of a YAML file, a dict, or a Scenario.
        overrides: dotted names to values, such as `{"workload.rate": 6.0}`.

    Raises:
        ScenarioError: unknown name, broken YAML, unknown key or bad value; says where and why.
    """
    if isinstance(source, Scenario):
        data, label = source.model_dump(mode="json", exclude_unset=True), source.name
    elif isinstance(source, Mapping):
        data, label = dict(source), "scenario"
    else:
        data, label = _read(str(source))
    for dotted, value in (overrides or {}).items():
        data = _replace(data, str(dotted).split("."), value, str(dotted))
    if isinstance(data.get("slo"), str):
        data["slo"] = _preset(data["slo"])
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(explain(error, label)) from None


def _read(source: str) -> tuple[dict[str, Any], str]:
    known = builtin_scenarios()
    path = known.get(source, Path(source))
    if not path.is_file():
        hint = difflib.get_close_matches(source, known, n=1)
        raise ScenarioError(
            f"no scenario {source!r}: neither a file nor one of {', '.join(known)}"
            + (f". Did you mean {hint[0]!r}?" if hint else "")
        )
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)  # noqa: S506  (it is safe)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path.name} is not valid YAML: {error}") from None
    except OSError as error:
        raise ScenarioError(f"cannot read scenario {source!r}: {error.strerror}") from None
    if not isinstance(data, dict):
        raise ScenarioError(
            f"{path.name} must hold a mapping of sections, got {type(data).__name__}"
        )
    data.setdefault("name", path.stem)
    return _with_files_beside(data, path.parent), path.name


def _with_files_beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The scenario with a trace that lies where its file does, unless there is one right here."""
    load = data.get("workload")
    if not isinstance(load, dict) or not isinstance(trace := load.get("trace"), str):
        return data
    if not Path(trace).exists() and (folder / trace).is_file():
        return {**data, "workload": {**load, "trace": str(folder / trace)}}
    return data


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice in a section is an error: one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A section; keys that come from a merge (`<<`) may be overridden."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for place, key in enumerate(keys) if key in keys[:place] and key != "<<"]
        if twice:
            raise yaml.constructor.ConstructorError(
                problem=f"key {twice[0]!r} is there twice, keep one", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def _preset(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise ScenarioError(f"slo: no preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def _replace(data: Any, names: list[str], value: Any, dotted: str) -> Any:
    """`data` with one nested value replaced, nothing shared with the original."""
    head, rest = names[0], names[1:]
    if isinstance(data, (list, tuple)):
        if not head.isdigit() or int(head) >= len(data):
            raise ScenarioError(f"override {dotted!r}: {head!r} is no index into {len(data)} items")
        items = list(data)
        items[int(head)] = _replace(items[int(head)], rest, value, dotted) if rest else value
        return items
    if isinstance(data, str) and data in PRESETS:
        data = PRESETS[data]
    if data is None and head.isdigit():
        return _replace(_default_items(dotted, len(names)), names, value, dotted)
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise ScenarioError(f"override {dotted!r}: {head!r} lies below a plain value, {data!r}")
    result = dict(data)
    result[head] = _replace(result.get(head), rest, value, dotted) if rest else value
    return result


def _default_items(dotted: str, depth: int) -> list[Any]:
    """The list that a scenario has if it says nothing, where an override indexes into it."""
    model: Any = Scenario
    found: Any = None
    for name in dotted.split(".")[:-depth]:
        field = model.model_fields.get(name) if model is not None else None
        found = None if field is None else field.default
        model = None if field is None else _model_in(field.annotation)
    if not isinstance(found, tuple):
        raise ScenarioError(f"override {dotted!r}: {dotted.split('.')[-depth]!r} is no known key")
    items = [item.model_dump(mode="json") if isinstance(item, Model) else item for item in found]
    return [_without_none(item) if isinstance(item, dict) else item for item in items]


def _without_none(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def explain(error: ValidationError, label: str, top: type[BaseModel] = Scenario) -> str:
    """One line per problem: where, which value, which rule, and the nearest known key of `top`."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(problem["loc"][:-1], top)
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            lines.append(f"{where} is no known key; known: {', '.join(known)}.{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{where} is required")
        else:
            rule = problem["msg"].removeprefix("Value error, ")
            rule = KINDS.get(problem["type"], rule)
            value = problem.get("input")
            shown = "" if isinstance(value, (dict, Mapping, Model)) else f", got {value!r}"
            lines.append(f"{where}: {rule}{shown}" if where else rule)
    return f"{label}: " + "; ".join(lines)


def _fields_at(location: tuple[int | str, ...], top: type[BaseModel]) -> list[str]:
    model: Any = top
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
