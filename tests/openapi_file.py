"""docs/openapi.json as tests read it: which path of it is meant, what does not fit a schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())

_PARAMETER = re.compile(r"\{([^{}]+)\}")
_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def deref(node: dict[str, Any]) -> dict[str, Any]:
    """The node itself, or what its `$ref` points to (without what stands beside it)."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def parameters(template: str, operation: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The parameters of a path, and of one of its operations."""
    both = [DOCUMENT["paths"][template], operation or {}]
    return [deref(each) for holder in both for each in holder.get("parameters", ())]


def pattern(template: str) -> str:
    """The regular expression of the paths that a template stands for."""
    patterns = {
        each["name"]: each["schema"]["pattern"].removeprefix("^").removesuffix("$")
        for each in parameters(template)
        if each["in"] == "path"
    }
    parts = _PARAMETER.split(template)
    return "".join(
        f"(?:{patterns[part]})" if place % 2 else re.escape(part)
        for place, part in enumerate(parts)
    )


def template_of(path: str) -> str | None:
    """The template that stands for a path; None if there is none."""
    found = [each for each in DOCUMENT["paths"] if re.fullmatch(pattern(each), path, re.ASCII)]
    assert len(found) <= 1, f"{path}: {found}"
    return found[0] if found else None


def misfits(schema: dict[str, Any], value: Any, at: str = "$") -> Iterator[str]:
    """What of a value does not fit a schema, in the part of JSON Schema that the file uses."""
    for keyword, rule in schema.items():
        match keyword:
            case "$ref":
                yield from misfits(deref({"$ref": rule}), value, at)
            case "anyOf":
                each = [list(misfits(option, value, at)) for option in rule]
                if all(each):
                    yield from min(each, key=len)
            case "type":
                names = [rule] if isinstance(rule, str) else rule
                if not any(_is(value, name) for name in names):
                    yield f"{at}: {value!r} is no {rule}"
            case "const" | "enum":
                allowed = [rule] if keyword == "const" else rule
                if not any(value == each and type(value) is type(each) for each in allowed):
                    yield f"{at}: {value!r} is none of {allowed}"
            case "pattern" | "minLength":
                yield from _text_misfits(keyword, rule, value, at)
            case "minimum" | "maximum":
                if _is(value, "integer") and (
                    value < rule if keyword == "minimum" else value > rule
                ):
                    yield f"{at}: {value} against {keyword} {rule}"
            case "items" | "minItems" | "maxItems":
                yield from _list_misfits(keyword, rule, value, at)
            case "properties" | "required" | "additionalProperties":
                yield from _map_misfits(keyword, rule, value, at, schema)
            case "description" | "default" | "examples":
                pass
            case _:
                raise AssertionError(f"{at}: a keyword that is not checked: {keyword}")


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _text_misfits(keyword: str, rule: Any, value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, str):
        return
    if keyword == "pattern" and not re.search(rule, value, re.ASCII):
        yield f"{at}: {value!r} does not match {rule}"
    if keyword == "minLength" and len(value) < rule:
        yield f"{at}: {value!r} is too short"


def _list_misfits(keyword: str, rule: Any, value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, list):
        return
    if keyword == "items":
        for place, item in enumerate(value):
            yield from misfits(rule, item, f"{at}[{place}]")
    elif len(value) < rule if keyword == "minItems" else len(value) > rule:
        yield f"{at}: {len(value)} items against {keyword} {rule}"


def _map_misfits(
    keyword: str, rule: Any, value: Any, at: str, schema: dict[str, Any]
) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    if keyword == "required":
        yield from (f"{at}: no {name}" for name in rule if name not in value)
        return
    for name, item in value.items():
        if keyword == "properties" and name in rule:
            yield from misfits(rule[name], item, f"{at}.{name}")
        if keyword == "additionalProperties" and name not in schema.get("properties", ()):
            if rule is False:
                yield f"{at}: {name} is not described"
            else:
                yield from misfits(rule, item, f"{at}.{name}")
