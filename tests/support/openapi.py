"""The API's document as it is committed: ``python -m tests.support.openapi`` writes it."""

from pathlib import Path

from trackdesk_worker.ops.console.api.serving import as_json, openapi

if __name__ == "__main__":
    (Path(__file__).parents[2] / "deploy/openapi.json").write_text(as_json(openapi()), "utf-8")
