"""Figures as tables of text."""

from typing import Any

_SHOWN = {
    "limit": "limit",
    "check": "check",
    "network": "network",
    "dtype": "dtype",
    "items": "rows",
    "queries": "queries",
    "batch": "batch",
    "images": "images",
    "contender": "contender",
    "seconds": "ms",
    "images_per_second": "images/s",
    "queries_per_second": "queries/s",
    "counted_tflops": "TFLOP/s",
    "tflops": "TFLOP/s",
    "gb_per_second": "GB/s",
    "gallery_gb_per_second": "gallery GB/s",
    "agrees_with_ours": "agrees with ours",
    "host_wait": "host waits",
    "device_wait": "device waits",
    "first_seconds": "first, s",
    "errors": "errors",
    "allowed": "allowed",
    "largest_difference": "largest difference",
    "largest_number": "largest number",
    "passed": "passed",
}


def heading(content: dict[str, Any]) -> str:
    """Say what the figures were measured on."""
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    driver = content["card"].get("driver_version", "none")
    return (
        f"{content['device']} ({content['platform']}), driver {driver}\n{versions}\n"
        + (content["pytorch"])
    )


def section(name: str, part: dict[str, Any]) -> str:
    """Write a section's rows and notes."""
    lines = [f"\n## {name}: {part['status']} in {part['seconds']:.0f} s"]
    rows = part["rows"]
    keys = [key for key in _SHOWN if any(row.get(key) for row in rows)]
    if rows:
        lines += ["| " + " | ".join(_SHOWN[key] for key in keys) + " |", "| --- " * len(keys) + "|"]
        lines += [
            "| " + " | ".join(_cell(key, row.get(key)) for key in keys) + " |" for row in rows
        ]
    lines += [f"- {note}" for note in part["notes"]]
    return "\n".join(lines + ([f"- {part['error']}"] if part["error"] else []))


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {error:.1e}" for name, error in value.items())
    if key == "seconds":
        return f"{1000 * value:.3f}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
