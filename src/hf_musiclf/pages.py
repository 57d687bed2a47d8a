"""A page written once and rendered twice: as Markdown beside its pictures, and as one HTML file that holds them."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Colours by the reader's setting; wide tables scroll by themselves; pictures stand side by side where there is room.
_CSS = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --soft: #5d646c; --line: #d9dde1; --fill: #f4f6f8;
  --warn: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #15181b; --soft: #a3abb3; --line: #363c42;
  --fill: #1f2428; --warn: #3a3115; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .6rem 0; }
ul.notes { margin: .8rem 0; padding: .6rem 1rem .6rem 2rem; max-width: 46rem; background: var(--warn);
  border-radius: .4rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td { min-width: 5.5rem; }
tr > th:first-child { position: sticky; left: 0; background: var(--paper); }
tbody th { font-weight: 400; color: var(--soft); min-width: 7rem; max-width: 12rem; }
pre { margin: .3rem 0 1rem; padding: .6rem .8rem; background: var(--fill); border-radius: .4rem; font-size: .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin: .8rem 0; }
.pictures img { display: block; max-width: 100%; height: auto; align-self: flex-start; background: #fff;
  border-radius: .4rem; }
.pictures.beside img { flex: 0 1 auto; max-width: min(100%, 32rem); }
@media (max-width: 30rem) { table { font-size: .8rem; } tbody th { min-width: 5.5rem; } }
"""


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Notes:
    """Remarks to be seen, each a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """head: names of the columns. rows: cells; the first one of each names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Pictures:
    """paths: of PNG files. alts: what each one shows, for those who do not see it."""

    paths: tuple[Path, ...]
    alts: tuple[str, ...]


Block = Heading | Paragraph | Notes | Table | Code | Pictures


def to_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """GitHub's Markdown; pictures are linked relative to `folder`, in which the page is to stand."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Notes(lines):
            return "\n".join(f"> - {_plain(line)}" for line in lines)
        case Table(head, rows):
            lines = [head, ("---",) * len(head)]
            lines += [tuple(map(_plain, row)) for row in rows]
            lines[0] = tuple(map(_plain, head))
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        case Code(text):
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
            return f"{fence}\n{text}\n{fence}"
        case Pictures(paths, alts):
            shown = zip(paths, alts, strict=True)
            links = [f"![{_plain(alt)}]({path.relative_to(folder).as_posix()})" for path, alt in shown]
            return links[0] if len(links) == 1 else _beside(links)


def _beside(links: Sequence[str]) -> str:
    """Two pictures in a row of a table, which scales them to fit."""
    pairs = [(*links[place : place + 2], "")[:2] for place in range(0, len(links), 2)]
    return "\n".join(f"| {' | '.join(pair)} |" for pair in [pairs[0], ("---", "---"), *pairs[1:]])


def _plain(text: str) -> str:
    """Text in which nothing means anything to Markdown, in one line. An interval keeps its brackets: it is no link.

    >>> _plain("a_b *c* [0.1, 0.2] [x](y)")
    'a_b \\\\*c\\\\* [0.1, 0.2] \\\\[x\\\\](y)'
    """
    special = r"[\\`*<>|]|\[(?![+-]?\d)|\](?=[(:\[])|(?<!\w)_|_(?!\w)"
    return " ".join(re.sub(special, lambda found: f"\\{found[0]}", text).split())


def to_html(blocks: Sequence[Block], title: str) -> str:
    """One file that needs nothing else: pictures as data URIs, style inside, no script."""
    body = "\n".join(map(_html, blocks))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_together(html.escape(text))}</p>"
        case Notes(lines):
            return f'<ul class="notes">{"".join(f"<li>{_together(html.escape(line))}</li>" for line in lines)}</ul>'
        case Table(head, rows):
            above = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
            below = "\n".join(_html_row(row) for row in rows)
            table = f"<table>\n<thead><tr>{above}</tr></thead>\n<tbody>\n{below}\n</tbody>\n</table>"
            return f'<div class="wide">{table}</div>'
        case Code(text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
        case Pictures(paths, alts):
            shown = "\n".join(_html_picture(path, alt) for path, alt in zip(paths, alts, strict=True))
            return f'<div class="pictures{" beside" if len(paths) > 1 else ""}">\n{shown}\n</div>'


def _html_row(row: Sequence[str]) -> str:
    first, *cells = map(html.escape, row)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{_together(cell)}</td>" for cell in cells)}</tr>'


def _together(text: str) -> str:
    """Text in which an interval, and a number with its percent sign, stand in one line."""
    return re.sub(r"(?<=\[)[^][]+(?=\])|\d %", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def _html_picture(path: Path, alt: str) -> str:
    data = path.read_bytes()
    width, height = _css_size(data)
    source = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" src="data:image/png;base64,{source}">'


def _css_size(png: bytes) -> tuple[int, int]:
    """Width and height on paper in pixels of CSS, 96 an inch; in the picture's own where it tells no resolution.

    Chunks IHDR and pHYs of W3C's Portable Network Graphics specification, 11.2.1 and 11.3.4.3.
    """
    size = [int.from_bytes(png[start : start + 4], "big") for start in (16, 20)]
    place = png.find(b"pHYs", 0, png.find(b"IDAT"))
    if place < 0 or png[place + 12] != 1:  # 1: pixels a metre
        return size[0], size[1]
    per_metre = (int.from_bytes(png[place + start : place + start + 4], "big") for start in (4, 8))
    width, height = (round(pixels / (rate * 0.0254) * 96) for pixels, rate in zip(size, per_metre, strict=True))
    return width, height
