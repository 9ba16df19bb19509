"""The description of the API by OpenAPI 3.1, and a page of it without any outside resource."""

import html

from .predict_api import DEFAULT_TOP_K, FORM
from .service import Service

ERRORS = {
    "400": "the request is not well formed",
    "401": "a token is needed",
    "404": "no such path or model",
    "408": "the body did not arrive in time",
    "413": "too many bytes or images",
    "415": "a content type that is not taken",
    "422": "an image that cannot be read",
    "431": "the headers are too large",
    "503": "busy, restarting or stopping: try again after Retry-After seconds",
    "504": "not answered in time",
}
RECORD = {
    "type": "object",
    "required": ["class_ids", "scores", "file_name", "label_names"],
    "properties": {
        "class_ids": {"type": "array", "items": {"type": "integer"}},
        "scores": {"type": "array", "items": {"type": "number"}, "description": "probabilities, the largest first"},
        "file_name": {"type": "string"},
        "label_names": {"type": "array", "items": {"type": "string"}},
        "error": {"type": "string", "description": "why this image could not be read; only of several images"},
    },
}
ERROR = {
    "type": "object",
    "required": ["error", "status", "kind", "request_id"],
    "properties": {
        "error": {"type": "string"},
        "status": {"type": "integer"},
        "kind": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def specification(service: Service) -> dict:
    """The description of the API."""
    models = list(service.engines)
    model = {"name": "model", "in": "query", "schema": {"type": "string", "enum": models, "default": models[0]}}
    top_k = {"name": "top_k", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": DEFAULT_TOP_K}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": models}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    predictions = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}},
            "milliseconds": {
                "type": "object",
                "properties": {stage: {"type": "number"} for stage in ("queue", "decode", "compute", "total")},
            },
        },
    }
    predict = _operation("Predict the classes of one image, or of several files", predictions, [model, top_k])
    predict["requestBody"] = {
        "required": True,
        "content": {"image/*": binary, "application/octet-stream": binary, FORM: {"schema": files}},
    }
    infer = _operation("Infer by the Open Inference Protocol: FP32 tensors, or image files as BYTES", {}, [name])
    infer["requestBody"] = {"required": True, "content": {"application/json": {}, "application/octet-stream": {}}}
    paths = {
        "/predict": {"post": predict},
        "/model": {"get": _operation("The card of a model", {}, [model])},
        "/v2": {"get": _open_operation("Name and extensions of the server")},
        "/v2/health/live": {"get": _open_operation("Whether the process runs")},
        "/v2/health/ready": {"get": _open_operation("Whether requests are answered")},
        "/v2/models/{name}": {"get": _operation("Inputs and outputs of a model", {}, [name])},
        "/v2/models/{name}/ready": {"get": _operation("Whether requests of a model are answered", {}, [name])},
        "/v2/models/{name}/infer": {"post": infer},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Image classification", "version": "1", "description": "Classes of images."},
        "security": [{"token": []}, {}],  # {}: a service without --token_file asks for none
        "paths": paths,
        "components": {
            "schemas": {"Record": RECORD, "Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(summary: str, answer: dict, parameters: list[dict]) -> dict:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {"200": {"description": "the answer", "content": {"application/json": {"schema": answer}}}}
    answers |= {status: {"description": text, "content": error} for status, text in ERRORS.items()}
    return {"summary": summary, "parameters": parameters, "responses": answers}


def _open_operation(summary: str) -> dict:
    """An operation that needs no token and has no parameters."""
    return _operation(summary, {}, []) | {"security": []}


def docs_page(description: dict) -> str:
    """The description as HTML."""
    parts = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}.</p>")
            rows = [(p["name"], p["in"], _values(p["schema"])) for p in operation["parameters"]]
            rows += [("body", kind, "") for kind in operation.get("requestBody", {}).get("content", ())]
            if rows:
                cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
                parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
    errors = "".join(f"<tr><td>{status}</td><td>{html.escape(text)}</td></tr>" for status, text in ERRORS.items())
    style = "body{font:16px sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}td{padding:.2rem .8rem .2rem 0}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Image classification: API</title><style>{style}</style><h1>API</h1>"
        f'<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>{"".join(parts)}'
        f"<h2>Errors</h2><p>JSON with <code>error</code>, <code>status</code>, <code>kind</code> and "
        f"<code>request_id</code>.</p><table>{errors}</table></html>"
    )


def _values(schema: dict) -> str:
    default = f", by default {schema['default']}" if "default" in schema else ""
    return " or ".join(schema["enum"]) + default if "enum" in schema else schema["type"] + default
