"""The OpenAPI document as one page, made here: no script, nothing fetched from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{font:13px/1.5 ui-monospace,monospace}h2{border-bottom:1px solid #ccc;margin-top:2rem}"
    "dt{margin-top:1rem}dd{margin:0 0 0 1rem;color:#444}b{display:inline-block;min-width:4rem}"
    "table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}dd{color:#aaa}}"
)


def render(document: dict[str, Any]) -> str:
    """A page of every path and every schema."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>smartema EMS API</title>",
        f"<style>{STYLE}</style><h1>smartema EMS API</h1>",
        "<p>Log in with <code>POST /api/v1/login</code>, or send <code>Authorization: Bearer …</code> with the "
        "token in the EMS's state folder. The machine-readable form is <a href=openapi.json>openapi.json</a>.</p>",
        "<h2>Paths</h2><dl>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<dt><b>{method.upper()}</b><code>{escape(path)}</code></dt>")
            parts.append(f"<dd>{escape(operation.get('description', ''))}{_asked(operation)}</dd>")
    parts.append("</dl><h2>Schemas</h2>")
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        parts.append(f"<h3 id={escape(name)}>{escape(name)}</h3><p>{escape(schema.get('description', ''))}</p><table>")
        for field, kind in schema.get("properties", {}).items():
            words = escape(kind.get("description", ""))
            parts.append(f"<tr><td><code>{escape(field)}</code><td>{_kind(kind)}<td>{words}</tr>")
        parts.append("</table>")
    return "".join(parts)


def _asked(operation: dict[str, Any]) -> str:
    words = [f"<code>{escape(p['name'])}</code> {_kind(p.get('schema', {}))}" for p in operation.get("parameters", [])]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        words.append(f"body {_kind(body)}")
    answers = operation.get("responses", {})
    good: dict[str, Any] = next((answers[code] for code in ("200", "201", "202") if code in answers), {})
    given = good.get("content", {}).get("application/json", {}).get("schema")
    if given:
        words.append(f"gives {_kind(given)}")
    return "<br>" + " · ".join(words) if words else ""


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href=#{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(escape(str(value)) for value in schema["enum"])
    if "const" in schema:
        return escape(str(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return f"map to {_kind(more)}"
    return escape(str(schema.get("type", "")))
