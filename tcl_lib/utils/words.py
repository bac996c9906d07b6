"""Parameters as short texts: for names of files, for tables and figures."""

import hashlib
import json
from typing import Any


def digest(content: dict | str) -> str:
    """Return a hyphen and six hexadecimal digits of the content's hash; "" for empty content."""
    if not content:
        return ""
    return "-" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]


def listed(changes: dict) -> list[str]:
    """Return parameters as people read them: "temperature 0.2", "positives class+time"."""

    def words(value: Any) -> str:
        return "+".join(map(str, value)) if isinstance(value, list) else str(value)

    return [f"{name.replace('_', ' ')} {words(value)}" for name, value in changes.items()]
