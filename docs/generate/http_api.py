"""The console's HTTP API: its OpenAPI document, and the reference page made from it."""

from typing import Any

from trackdesk_worker.console.api.serving import ERROR_CODES, as_json, openapi

INTRODUCTION = """# HTTP API

<!-- Generated from the API's own OpenAPI document by `make reference`; do not edit. -->

The console serves everything its pages do under `/api/v1`. [openapi.json](openapi.json) is the OpenAPI 3.1 document; a
running console serves it at `/api/v1/openapi.json`.

- Send `Authorization: Bearer TOKEN`. [Console access](../guides/console-access.md) says how to create one.
- Amounts are decimal strings. Times are RFC 3339 in UTC.
- A list answers with `after`; send it back to get the next page.
- At most 64 kB a request, 40 requests a second per address (240 in a burst), 10 wrong tokens a minute.

"""


def render_document() -> str:
    """Return the OpenAPI document."""
    return as_json(openapi())


def render() -> str:
    """Return the page."""
    document = openapi()
    schemas = document["components"]["schemas"]
    parts = [INTRODUCTION, "## Operations\n\n| operation | role | does | takes |\n|---|---|---|---|\n"]
    bodies: dict[str, None] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            role = operation["description"].removeprefix("Requires the role ").rstrip(".")
            body = _body(operation)
            if body:
                bodies[body] = None
            takes = f"[{body}](#{body.lower()})" if body else ", ".join(_query(operation))
            parts.append(f"| `{method.upper()} {path}` | {role} | {operation['summary']} | {takes} |\n")
    parts.append('\n## Errors\n\nEvery error is `{"error": "…", "message": "one sentence"}`.\n\n')
    parts.append("| status | `error` |\n|--:|---|\n")
    parts += [f"| {status} | `{word}` |\n" for status, word in sorted(ERROR_CODES.items())]
    parts.append("\n## Bodies\n")
    for name in bodies:
        schema = schemas[name]
        description = schema.get("description", "").splitlines()
        parts.append(f"\n### {name}\n\n{description[0] if description else ''}\n\n")
        parts.append("| field | type | needed | meaning |\n|---|---|---|---|\n")
        for field, about in schema["properties"].items():
            needed = "yes" if field in schema.get("required", ()) else ""
            parts.append(f"| `{field}` | {_type(about)} | {needed} | {about.get('description', '')} |\n")
    return "".join(parts)


def _body(operation: dict[str, Any]) -> str | None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return None if content is None else str(content["schema"]["$ref"]).rpartition("/")[2]


def _query(operation: dict[str, Any]) -> list[str]:
    return [f"`{one['name']}`" for one in operation.get("parameters", ()) if one["in"] == "query"]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"] if option.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", "object"))
