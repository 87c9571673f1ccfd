"""Generates the OpenAPI document from the endpoints and their models."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from trackdesk_worker.console.api import ROOT, Endpoint
from trackdesk_worker.console.api.models import ErrorBody

ALWAYS = (400, 401, 403, 429, 503)
"""Error statuses of every operation."""
WITH_BODY = (413, 415, 408)
TENANT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
PLAN_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"


def document(endpoints: Sequence[Endpoint], *, version: str) -> dict[str, Any]:
    """Return the document."""
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ErrorBody, "serialization"): None}
    for endpoint in endpoints:
        for model in (endpoint.query, endpoint.body):
            if model is not None:
                wanted[model, "validation"] = None
        if endpoint.answer is not None:
            wanted[endpoint.answer, "serialization"] = None
    names, schemas = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, names, schemas["$defs"])
        paths.setdefault(ROOT + endpoint.path, {})[endpoint.method.lower()] = operation
    used = _used(paths, schemas["$defs"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trackdesk delivery",
            "version": version,
            "description": "The console's functions for programs. Amounts: decimal strings; times: RFC 3339 in UTC.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schemas["$defs"][name] for name in sorted(used)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, names: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{endpoint.method.lower()}{endpoint.path}").rstrip("_"),
        "summary": endpoint.summary,
        "description": f"Requires the role {endpoint.role}.",
        "responses": {"200": _success(endpoint, names)},
    }
    statuses = {*ALWAYS, *endpoint.refusals, *(WITH_BODY if endpoint.body is not None else ())}
    refusal = {"application/json": {"schema": names[ErrorBody, "serialization"]}}
    for status in sorted(statuses):
        operation["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": refusal}
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": TENANT_PATTERN if name == "tenant" else PLAN_PATTERN},
        }
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.query is not None:
        schema = schemas[_name(names[endpoint.query, "validation"])]
        required = schema.get("required", ())
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": _without_null(field)}
            for name, field in schema["properties"].items()
        ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        content = {"application/json": {"schema": names[endpoint.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _success(endpoint: Endpoint, names: Any) -> dict[str, Any]:
    if endpoint.answer is None:
        lines = {"schema": {"type": "string"}}
        return {"description": "Lines", "content": {"application/x-ndjson": lines, "text/csv": lines}}
    schema = names[endpoint.answer, "serialization"]
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without null: a query string omits a parameter instead."""
    options = [option for option in field.get("anyOf", ()) if option.get("type") != "null"]
    rest = {name: value for name, value in field.items() if name not in ("anyOf", "default") or value is not None}
    if len(options) != 1:
        return rest
    rest.pop("anyOf", None)
    return {**options[0], **rest}


def _name(reference: dict[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _used(paths: Any, schemas: dict[str, Any]) -> set[str]:
    """Return the names of the schemas that the paths reference, directly or through others."""
    used: set[str] = set()
    waiting = [paths]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            name = _name(one) if isinstance(one.get("$ref"), str) else None
            if name is not None and name not in used:
                used.add(name)
                waiting.append(schemas[name])
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return used
