"""The JSON Schema of a topology file, made from the grammar's models, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streams.topology import model as models
from streams.topology.declarations import ALIASES
from streams.topology.model import Grammar, TopologyModel

FILE = "topology.json"


def topology_schema() -> dict[str, Any]:
    """The schema as plain values."""
    schema = TopologyModel.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    _both_forms(schema, definitions)
    for name, definition in [("TopologyModel", schema), *definitions.items()]:
        _other_spellings(getattr(models, name), definition["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Topology of a pipeline",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _both_forms(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Adds the shorter forms that are brought to the models' form before they are checked."""
    gate = {"$ref": "#/$defs/GateModel"}
    schema["properties"]["gates"] = {
        "anyOf": [
            {"type": "array", "items": gate},
            {"type": "object", "additionalProperties": {"anyOf": [gate, {"type": "null"}]}},
        ]
    }
    source = {"$ref": "#/$defs/SourceModel"}
    schema["properties"]["source"] = {"anyOf": [source, {"type": "array", "items": source}]}
    types = [*definitions["ParamModel"]["properties"]["type"]["enum"]]
    schema["properties"]["params"] = {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"$ref": "#/$defs/ParamModel"}, {"enum": types}, {"type": "null"}]
        },
    }
    for name in ("StageModel", "GateModel"):
        properties = definitions[name]["properties"]
        properties["condition"] = {
            "anyOf": [{"$ref": "#/$defs/ConditionModel"}, {"type": "string"}]
        }
    assert set(ALIASES) <= set(types)


def _other_spellings(model: type[Grammar], properties: dict[str, Any]) -> None:
    for other, field in model.SYNONYMS.items():
        properties.setdefault(other, properties[field])
    for name in list(properties):
        if "_" in name:
            properties[name.replace("_", "-")] = properties[name]


def export(folder: Path) -> Path:
    """Writes the schema into the folder and returns its path."""
    path = folder / FILE
    path.write_text(schema_text(), "utf-8")
    return path


def schema_text() -> str:
    """The schema as it stands in the repository: sorted keys, two spaces."""
    return json.dumps(topology_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
