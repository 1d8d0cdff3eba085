"""Learned parameters on disk: plain JSON with a schema, where it came from, and a hash that decisions refer to.

An artefact is learned offline (`learning`, `evaluation`) and read at start; a policy holds one and never imports its learner.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stretto.errors import ConfigError

__all__ = ["Artifact", "packed", "read", "unpacked", "write"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Learned numbers: `data` in the form that `schema` names; `provenance` says from what, by what, when, with which seed."""

    schema: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of schema and data: what a recorded choice names."""
        body = json.dumps([self.schema, self.data], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()[:12]


def read(path: Path, schema: str) -> Artifact:
    """Read an artefact of one schema. Raises `ConfigError` if it is absent, damaged, or of another schema."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        found = Artifact(body["schema"], body["provenance"], body["data"])
    except OSError as error:
        raise ConfigError(f"artefact {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"artefact {path}: is not an artefact (JSON with schema, provenance, data)"
        ) from None
    if found.schema != schema:
        older = str(found.schema).partition("/")[0] == schema.partition("/")[0]
        raise ConfigError(
            f"artefact {path}: has schema {found.schema!r}, needed is {schema!r}"
            + ("; it is of another edition of stretto: learn it anew, or move it away" if older else "")
        )
    if body.get("hash") != found.hash:
        raise ConfigError(f"artefact {path}: its data was changed after it was written (hash does not match)")
    return found


def write(artifact: Artifact, path: Path) -> None:
    """Write an artefact, whole or not at all."""
    body = {
        "schema": artifact.schema,
        "hash": artifact.hash,
        "provenance": artifact.provenance,
        "data": artifact.data,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def packed(array: Any) -> dict[str, Any]:
    """A numpy array as JSON data: dtype, shape, and its little-endian bytes in base64."""
    import numpy as np

    plain = np.ascontiguousarray(array)
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": plain.dtype.str,
        "shape": list(plain.shape),
        "base64": base64.b64encode(plain.tobytes()).decode("ascii"),
    }


def unpacked(data: Mapping[str, Any]) -> Any:
    """The array that `packed` made into data."""
    import numpy as np

    raw = np.frombuffer(base64.b64decode(data["base64"]), dtype=np.dtype(data["dtype"]))
    return raw.reshape(data["shape"])
