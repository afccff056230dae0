"""Self-contained HTML pages."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


def picture(figure: Figure) -> str:
    """A figure as an HTML image that needs no file beside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _image(buffer)


def sheet_picture(sheet: Image.Image, caption: str) -> str:
    """A sheet of images as an HTML image with a line below."""
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return f"<figure>{_image(buffer)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as an HTML table."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def write_page(path: Path, title: str, sections: Sequence[tuple[str, str]]) -> None:
    """Writes headed HTML parts as one page, replacing an older one only once it is whole."""
    body = "".join(f"<h2>{html.escape(head)}</h2>{part}" for head, part in sections)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>{body}"
        "</body></html>\n",
        encoding="utf-8",
    )
    temporary.replace(path)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
img { max-width: 100%; } pre { background: #f6f8fa; padding: 1em; overflow: auto; }
table { border-collapse: collapse; } td, th { padding: .2em .9em .2em 0; text-align: left; }
figure { margin: 0 0 1em; } figcaption { color: #57606a; }
.cells { display: flex; gap: .5em; font-size: 12px; } .cells figure { width: 112px; }
.row { display: flex; flex-wrap: wrap; gap: 1em; } .row figure { flex: 1 1 300px; }
.thumbs { display: flex; flex-wrap: wrap; gap: .6em; } .thumbs figure { width: 150px; }
.thumbs img { width: 110px; image-rendering: pixelated; border: 1px solid #d0d7de; }
.thumbs figcaption { font-size: 11px; line-height: 1.3; white-space: pre-wrap;
overflow-wrap: anywhere; }
tr { border-bottom: 1px solid #d0d7de; } td { font-variant-numeric: tabular-nums; }
"""


def _image(png: io.BytesIO) -> str:
    data = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'
