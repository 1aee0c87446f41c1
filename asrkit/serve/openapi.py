"""The description of the HTTP API for GET /openapi.json. It is made from the tables that read the requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from asrkit import __version__
from asrkit.serve.queries import Parameter

_SUMMARIES = {
    "/transcribe": "Recognise the phones of a recording",
    "/align": "Find where known phones are in a recording",
}
_FAULTS = {
    "400": "A parameter is wrong, or the body is empty.",
    "401": "A token is needed.",
    "403": "The request comes from another site's page, or under a name that is not this server's.",
    "404": "No such model.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "422": "The body is no audio that can be read, or phones do not fit it.",
    "503": "Too many requests are under way.",
}
_PHONES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "phone": {"type": "string"},
            "start": {"type": "number", "description": "seconds"},
            "end": {"type": "number", "description": "seconds"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        },
    },
}
_RESULT = {
    "type": "object",
    "properties": {
        "file": {"type": "string"},
        "log_prob": {"type": "number"},
        "confidence": {"type": "number"},
        "phones": _PHONES,
    },
}
_MODELS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "phones": {"type": "array", "items": {"type": "object"}},
            "streams": {"type": "boolean", "description": "whether it takes streams"},
            "why": {"type": ["string", "null"], "description": "why it takes none"},
            "note": {"type": ["string", "null"], "description": "why its results mean little on people's speech"},
        },
    },
}


def describe(operations: Mapping[str, Iterable[Parameter]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document. `operations`: path of a POST -> its parameters."""
    paths: dict[str, Any] = {path: {"post": _operation(path, of_path)} for path, of_path in operations.items()}
    paths["/models"] = {"get": {"summary": "The models, the first being the default", "responses": _responses(_MODELS)}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "asrkit", "version": __version__, "summary": "Phonemes of recordings"},
        "paths": paths,
        "components": {
            "schemas": {"Fault": {"type": "object", "properties": {"error": {"type": "string"}}}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(path: str, parameters: Iterable[Parameter]) -> dict[str, Any]:
    return {
        "summary": _SUMMARIES[path],
        "parameters": [
            {
                "name": each.name,
                "in": "query",
                "required": each.is_required,
                "description": each.description,
                "schema": dict(each.schema),
            }
            for each in parameters
        ],
        "requestBody": {
            "required": True,
            "description": "An audio file of any format that `asrkit transcribe` reads.",
            "content": {"application/octet-stream": {}},
        },
        "responses": _responses(_RESULT),
    }


def _responses(schema: Mapping[str, Any]) -> dict[str, Any]:
    fault = {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
    faults = {status: {"description": text, "content": fault} for status, text in _FAULTS.items()}
    content = {"application/json": {"schema": schema}, "text/plain": {"schema": {"type": "string"}}}
    return {"200": {"description": "The result.", "content": content}, **faults}
