"""Self-contained HTML pages."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from vision_jax.files import write_text
from vision_jax.visual.plots import write_png


def figure_html(figure: Figure, description: str) -> str:
    """Embed a matplotlib figure as an HTML image.

    Args:
        figure: what to draw.
        description: what it shows, for readers who cannot see it.
    """
    buffer = io.BytesIO()
    write_png(figure, buffer)
    return _image(buffer, description)


def image_html(
    image: Image.Image,
    caption: str,
    *,
    description: str = "",
    lossy: bool = False,
    title: str = "",
    kind: str = "",
) -> str:
    """Embed an image as HTML, with a caption below it.

    Args:
        image: what to show.
        caption: plain text.
        description: what it shows, for readers who cannot see it, where neither the caption nor
            the title says so.
        lossy: store it as JPEG rather than PNG, or as WebP if it is transparent; a photograph then
            takes a quarter of the bytes.
        title: its whole name, shown to those who point at it or cannot see it.
        kind: CSS class of the whole.
    """
    format = "png" if not lossy else "webp" if image.has_transparency_data else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, format, quality=90)  # PNG knows no quality and ignores it
    picture = _image(buffer, description or title, format)
    start = "<figure" + (f' class="{kind}"' if kind else "")
    start += f' title="{html.escape(title)}"' if title else ""
    return f"{start}>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def paragraph(text: str) -> str:
    """Escape plain text as an HTML paragraph; empty for empty text."""
    return f"<p>{html.escape(text)}</p>" if text else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of text as an HTML table."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def folded(summary: str, content: str) -> str:
    """Hide HTML behind a line of plain text, which a click opens."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def write_page(
    path: Path, title: str, sections: Sequence[tuple[str, str]], *, introduction: str = ""
) -> None:
    """Write headed HTML parts as one page, whole or not at all.

    Args:
        path: the page; an older one stays until the new one is whole.
        title: plain text.
        sections: each a heading in plain text and its HTML.
        introduction: HTML between the title and the first section.
    """
    body = "".join(f"<h2>{html.escape(head)}</h2>{part}" for head, part in sections)
    write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{SHEET_STYLE}</style></head><body><h1>{html.escape(title)}</h1>{introduction}"
        f"{body}</body></html>\n",
    )


_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2328; --muted: #57606a;
--line: #d0d7de; --soft: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --ink: #e6edf3; --muted: #9198a1;
--line: #3d444d; --soft: #161b22; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
background: var(--page); color: var(--ink); }
h1 { overflow-wrap: anywhere; } p { max-width: 52em; }
img { max-width: 100%; } pre { background: var(--soft); padding: 1em; overflow: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: .2em .9em .2em 0; text-align: left; }
figure { margin: 0 0 1em; } figcaption { color: var(--muted); }
.cells { display: flex; gap: .5em; font-size: 12px; } .cells figure { width: 112px; }
.row { display: flex; flex-wrap: wrap; gap: 1em; } .row figure { flex: 1 1 300px; }
.row figcaption { overflow-wrap: anywhere; }
.maps { display: grid; gap: .4em 1em; margin-bottom: 1.5em;
grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.maps figure { margin: 0; } .maps img { width: 100%; border-radius: 4px; }
.maps.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
.maps.small { display: inline-flex; flex-wrap: wrap; max-width: 100%; margin: 0 2em 1.5em 0;
vertical-align: top; font-size: 12px; } .maps.small > * { width: 140px; }
dt { font-weight: 600; } dd { margin: 0 0 .6em; max-width: 52em; }
.scale { max-width: 420px; font-size: 12px; color: var(--muted); margin: .3em 0 0; }
.scale .bar { height: 10px; border-radius: 5px; }
.scale .ends { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
tr { border-bottom: 1px solid var(--line); } td { font-variant-numeric: tabular-nums; }
"""
SHEET_STYLE = """
.sheet { display: flex; flex-wrap: wrap; gap: .6em; margin: 0 0 1em; }
.sheet > * { flex: 1 1 110px; max-width: 150px; } .sheet figure { margin: 0; }
.sheet a { color: inherit; text-decoration: none; }
.sheet img { max-width: 100%; max-height: 150px; border: 2px solid var(--line, #d0d7de);
box-sizing: border-box; }
.sheet figcaption { font-size: 12px; line-height: 1.3; color: var(--muted, #57606a);
white-space: pre-wrap; overflow-wrap: anywhere; }
.sheet .right img { border-color: #1a7f37; } .sheet .right figcaption { color: #1a7f37; }
.sheet .wrong img { border-color: #cf222e; } .sheet .wrong figcaption { color: #cf222e; }
"""
"""CSS of `sheets`."""


def _image(file: io.BytesIO, description: str, kind: str = "png") -> str:
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/{kind};base64,{data}">'
