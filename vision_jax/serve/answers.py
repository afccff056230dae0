"""JSON answers, and those that say what is wrong."""

import json
import math
from typing import Any

from starlette.responses import Response

from vision_jax.serve.faults import RequestError


class JSONAnswer(Response):
    """JSON that every parser reads: ASCII, and null for what is NaN or infinite."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        try:
            return _encode(content).encode()
        except ValueError:  # rare, and looking for it first would take as long as encoding
            return _encode(_finite(content)).encode()


def fault_answer(fault: RequestError) -> Response:
    """Say what is wrong with a request."""
    message = " ".join(str(fault).split())  # one line
    headers = {"Retry-After": "1"} if fault.status == 503 else None
    content = {"error": {"field": fault.field or None, "message": message}}
    return JSONAnswer(content, status_code=fault.status, headers=headers)


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
