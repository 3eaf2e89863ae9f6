"""docs/openapi.json is OpenAPI 3.1, and has the client-facing routes and limits that there are."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_file import DOCUMENT, deref, misfits, parameters, pattern, template_of
from restante import limits
from restante.errors import InvalidEncoding
from restante.formats import tiles
from restante.formats.paths import check_path, segment_path
from restante.node.config import OPTIONS

PATHS: dict[str, Any] = DOCUMENT["paths"]
COMPONENTS: dict[str, Any] = DOCUMENT["components"]
ROLES = {"validator", "proposer", "gateway", "mailserver"}
WIRE = Path(__file__).parents[2] / "src" / "restante" / "node" / "wire"

# What an object of OpenAPI 3.1.0 may have (its section 4.8), as far as the file has such objects;
# x-… may stand everywhere.
FIELDS = {
    "document": {"openapi", "info", "servers", "tags", "paths", "components"},
    "info": {"title", "version", "summary", "description"},
    "path": {"summary", "description", "parameters", "get", "post"},
    "operation": {"operationId", "tags", "parameters", "requestBody", "responses", "description"},
    "parameter": {"name", "in", "required", "description", "schema", "examples"},
    "requestBody": {"description", "required", "content"},
    "response": {"description", "headers", "content"},
    "header": {"description", "required", "schema"},
    "media": {"schema"},
}


def walk(node: Any) -> Iterator[Any]:
    yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from walk(child)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for template, item in PATHS.items():
        for method in {"get", "post"} & set(item):
            yield template, method, item[method]


def responses() -> Iterator[tuple[str, dict[str, Any]]]:
    for template, method, operation in operations():
        for status, response in operation["responses"].items():
            yield f"{method} {template} {status}", deref(response)
    for template, item in PATHS.items():
        if "x-other-methods" in item:
            yield f"other methods of {template}", deref(item["x-other-methods"])


def assert_fields(kind: str, node: dict[str, Any], at: str, required: tuple[str, ...] = ()) -> None:
    fields = {name for name in node if not name.startswith("x-")}
    assert fields <= FIELDS[kind], f"{at}: {fields - FIELDS[kind]}"
    assert set(required) <= fields, f"{at}: {set(required) - fields}"


# --- the file itself ------------------------------------------------------------------------------


def test_the_document_has_the_form_of_openapi() -> None:
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
    assert_fields("document", DOCUMENT, "#", ("openapi", "info", "paths"))
    assert_fields("info", DOCUMENT["info"], "#/info", ("title", "version"))
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    names = Counter(operation["operationId"] for _, _, operation in operations())
    assert set(names.values()) == {1}
    for template, method, operation in operations():
        at = f"{method} {template}"
        assert_fields("operation", operation, at, ("operationId", "responses"))
        assert set(operation["tags"]) <= tags, at
        assert operation["responses"], at
        assert all(re.fullmatch("[1-5][0-9]{2}", status) for status in operation["responses"]), at
    for template, item in PATHS.items():
        assert template.startswith("/")
        assert_fields("path", item, template, ("summary",))
        assert set(item["x-roles"]) <= ROLES
        assert item["x-roles"]


def test_every_path_parameter_is_described() -> None:
    for template in PATHS:
        described = [each for each in parameters(template) if each["in"] == "path"]
        assert [each["name"] for each in described] == re.findall(r"\{([^{}]+)\}", template)
        for each in described:
            assert each["required"] is True
            assert each["schema"]["pattern"].startswith("^")
    for template, _, operation in operations():
        for each in parameters(template, operation):
            assert_fields("parameter", each, template, ("name", "in", "schema"))
            assert each["in"] in ("path", "query", "header")
            for example in each.get("examples", {}).values():
                assert not list(misfits(each["schema"], example["value"]))


def test_responses_have_the_form_of_openapi() -> None:
    for at, response in responses():
        assert_fields("response", response, at, ("description",))
        for name, header in response.get("headers", {}).items():
            # OpenAPI passes over a header of that name.
            assert name.lower() != "content-type", at
            assert_fields("header", deref(header), f"{at} {name}", ("schema",))
        for kind, media in response.get("content", {}).items():
            assert re.fullmatch(r"[a-z]+/[a-z.0-9-]+(; [a-z]+=[a-z0-9.-]+)*", kind), at
            assert_fields("media", media, at)
            assert media.get("x-max-bytes", "NOTE_MAX_BYTES") in DOCUMENT["x-limits"], at
    for _, _, operation in operations():
        if "requestBody" in operation:
            assert_fields("requestBody", operation["requestBody"], "body", ("content",))


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    used = {node["$ref"] for node in walk(DOCUMENT) if isinstance(node, dict) and "$ref" in node}
    for reference in used:
        deref({"$ref": reference})
    there = {f"#/components/{kind}/{name}" for kind, each in COMPONENTS.items() for name in each}
    assert used == there


def test_every_error_is_code_message_and_hint() -> None:
    """But for `Unwell`, which names reasons."""
    for at, response in responses():
        status = at.rpartition(" ")[2]
        if not status.startswith(("4", "5")):
            continue
        assert set(response["content"]) == {"application/json"}, at
        schema = response["content"]["application/json"]["schema"]
        error = {"code": _code(schema), "message": "a message", "hint": "a hint"}
        assert not list(misfits(schema, error)), at
        for bad in ({**error, "hint": ""}, {**error, "code": "A b"}, {**error, "more": 1}, {}):
            assert list(misfits(schema, bad)), (at, bad)


def _code(schema: dict[str, Any]) -> str:
    code = schema.get("properties", {}).get("code", {})
    return str([*code.get("enum", ()), *code.get("examples", ()), "busy"][0])


def test_a_misfit_is_found() -> None:
    """The checker that the tests rest on."""
    schema = {
        "type": "object",
        "required": ["a"],
        "additionalProperties": False,
        "properties": {
            "a": {"type": "integer", "minimum": 0, "maximum": 9},
            "b": {"type": ["array", "null"], "items": {"type": "string", "pattern": "^x$"}},
            "c": {"anyOf": [{"const": True}, {"enum": ["y"]}]},
        },
    }
    for good in ({"a": 1}, {"a": 0, "b": None}, {"a": 9, "b": ["x"]}, {"a": 1, "c": "y"}):
        assert not list(misfits(schema, good))
    for bad in (
        {}, [], {"a": True}, {"a": -1}, {"a": 10}, {"a": "1"}, {"a": 1, "d": 1}, {"a": 1, "b": [1]},
        {"a": 1, "b": ["xx"]}, {"a": 1, "b": "x"}, {"a": 1, "c": 1},
    ):  # fmt: skip
        assert list(misfits(schema, bad)), bad
    with pytest.raises(AssertionError):
        list(misfits({"oneOf": []}, 1))


# --- against the code -----------------------------------------------------------------------------


def test_limits_and_ports_are_those_of_the_code() -> None:
    assert DOCUMENT["x-limits"] == {name: getattr(limits, name) for name in DOCUMENT["x-limits"]}
    text = str({name: part for name, part in DOCUMENT.items() if name != "x-limits"})
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text))
    assert named == set(DOCUMENT["x-limits"])
    ports = {option.name: option.default for option in OPTIONS}
    urls = [f"http://127.0.0.1:{ports[f'{section}.port']}" for section in ("listen", "gateway")]
    assert [server["url"] for server in DOCUMENT["servers"]] == urls
    windows = COMPONENTS["schemas"]["Windows"]["properties"]["windows"]
    assert windows["maxItems"] == limits.JOURNAL_WINDOWS


def test_every_refusal_of_the_routes_is_in_the_file() -> None:
    """A status and code that the code names, and that no client-facing answer has, is of nodes."""
    found: set[tuple[str, str]] = set()
    for name in ("http", "routes_archive", "routes_network", "routes_node", "connections"):
        source = (WIRE / f"{name}.py").read_text()
        found |= set(
            re.findall(
                r'(?:RequestRefused|error_response|_turn_away)\(\s*(\d+),\s*"([a-z-]+)"', source
            )
        )
    assert ("416", "range") in found
    described: set[tuple[str, str]] = set()
    for at, response in responses():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        code = schema.get("properties", {}).get("code", {})
        status = at.rpartition(" ")[2]
        described |= {(status, each) for each in (*code.get("enum", ()), *code.get("examples", ()))}
    of_nodes = {("409", "decided")}
    unseen = {("400", "disconnected"), ("500", "internal")}
    assert found - described == of_nodes | unseen


NUMBERS = st.integers(0, limits.TREE_SIZE_MAX - 1) | st.integers(0, 2_000_000)
WIDTHS = st.integers(1, tiles.WIDTH)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True)
FILES = st.one_of(
    st.sampled_from(["checkpoint", "descriptor", "policy"]),
    st.builds(lambda kind, name: f"{kind}/{name}", st.sampled_from(["watch", "contact"]), NAMES),
    st.builds(tiles.tile_path, st.integers(0, 63), NUMBERS, WIDTHS),
    st.builds(tiles.entries_path, NUMBERS, WIDTHS),
    st.builds(tiles.certificate_path, NUMBERS, WIDTHS),
    st.builds(segment_path, st.integers(0, 99), NUMBERS, st.integers(0, 9_999)),
)
ARCHIVE = [each for each in PATHS if "archive" in PATHS[each].get("get", {}).get("tags", ())]


@given(FILES)
def test_every_path_of_an_archive_is_in_the_file(path: str) -> None:
    assert check_path(path) == path
    assert template_of(f"/{path}") in ARCHIVE


@given(
    st.sampled_from(ARCHIVE).flatmap(
        lambda each: st.from_regex(f"(?a:{pattern(each)})", fullmatch=True)
    )
)
def test_every_archive_path_of_the_file_is_one(path: str) -> None:
    try:
        check_path(path.removeprefix("/"))
    except InvalidEncoding:
        # No pattern says that an index is below TREE_SIZE_MAX.
        digits = re.sub(r"\.p/.*|\.[0-9]*\.?car|[^0-9]", "", path.partition("/x")[2])
        assert int(digits or 0) >= limits.TREE_SIZE_MAX, path


@pytest.mark.parametrize(
    "path",
    [
        "/", "/checkpoint/", "/tile/0", "/tile/64/000", "/tile/0/5", "/tile/0/x000/001",
        "/tile/0/000.p/0", "/tile/0/000.p/256", "/segment/0/000", "/segment/00/000.car",
        "/segment/0/000.0.car", "/watch/.hidden", "/watch/a/b", "/lock/lock.db", "/ipfs", "/pool",
    ],
)  # fmt: skip
def test_what_is_no_path_is_not_in_the_file(path: str) -> None:
    assert template_of(path) is None
