# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document as one HTML page that needs nothing else. Pure; controller only."""

from __future__ import annotations

import html
import re
from typing import Any, Callable, Dict, Iterable, Match, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Block,
    Bullets,
    Card,
    Document,
    Facts,
    Heading,
    Inline,
    Listing,
    Notice,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, visible

_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<string>'(?:[^']|'')*'|(?P<tag>\$[A-Za-z_]*\$).*?(?P=tag))"
    r'|(?P<name>"(?:[^"]|"")*")|(?P<word>[A-Za-z_][A-Za-z0-9_$]*)',
    re.DOTALL,
)

# Each between spaces.
_KEYWORDS = (
    " ADD ALL ALTER ALWAYS AND AS ASC BEGIN BETWEEN BY CASCADE CASE CHECK COLLATE COLUMN COMMENT COMMIT"
    " CONCURRENTLY CONSTRAINT CREATE CROSS DEFAULT DELETE DESC DISTINCT DO DOMAIN DROP ELSE END EXCEPT"
    " EXECUTE EXISTS EXTENSION FALSE FILTER FOR FOREIGN FROM FULL FUNCTION GENERATED GRANT GROUP HAVING"
    " IDENTITY IF IN INCLUDE INDEX INNER INSERT INTERSECT INTO IS JOIN KEY LANGUAGE LATERAL LEFT LIKE"
    " LIMIT LOCAL LOCK MATERIALIZED NOT NULL OF ON OR ORDER OUTER OVER PARTITION POLICY PRIMARY REFERENCES"
    " RENAME REPLACE RESTRICT RETURNING RETURNS REVOKE RIGHT ROLLBACK ROW ROWS SCHEMA SELECT SEQUENCE SET"
    " START TABLE THEN TO TRANSACTION TRIGGER TRUE TYPE UNION UNIQUE UPDATE USING VALID VALIDATE VALUES"
    " VIEW WHEN WHERE WITH "
)


def _h(text: str, keep: str = LAYOUT) -> str:
    return html.escape(visible(text, keep), quote=True)


def _h_code(text: str, keep: str = LAYOUT) -> str:
    """Return the text with the code points that ``visible`` shows marked."""
    return re.sub(r"⟨U\+[0-9A-F]+⟩", lambda found: f'<b class="hidden">{found[0]}</b>', _h(text, keep))


def _sql(text: str) -> str:
    out, position = [], 0

    def shown(found: Match[str]) -> str:
        kind = "string" if found["tag"] else str(found.lastgroup)
        if kind == "word":
            return f"<b>{found[0]}</b>" if f" {found[0].upper()} " in _KEYWORDS else found[0]
        return f'<span class="{kind}">{_h_code(found[0])}</span>'

    for found in _TOKEN.finditer(text):
        out += [_h_code(text[position : found.start()]), shown(found)]
        position = found.end()
    return "".join(out) + _h_code(text[position:])


def _inline(value: Inline) -> str:
    if isinstance(value, str):
        return _h(value)
    return f"<code>{_h_code(value.text, keep='')}</code>" if value.text else ""


def _parts(parts: Sequence[Inline]) -> str:
    return "".join(_inline(part) for part in parts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html_table(block: Table) -> str:
    def row(cells: Sequence[Inline]) -> str:
        marked = (
            f'<td{" class=n" if index in block.numeric else ""} data-label="{_h(block.head[index])}">{_inline(cell)}</td>'
            for index, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    head = "".join(
        f'<th scope="col"{" class=n" if index in block.numeric else ""}>{_h(cell)}</th>'
        for index, cell in enumerate(block.head)
    )
    body = "\n".join(row(cells) for cells in block.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _html_card(block: Card) -> str:
    badges = "".join(f'<span class="badge {badge.tone}">{_h(badge.text)}</span>' for badge in block.badges)
    head = f"<h4>{_h(block.title)}</h4>{badges}"
    body = "\n".join(_html_block(inner) for inner in block.blocks)
    if block.folded:
        return f'<details class="card"><summary>{head}</summary>\n{body}\n</details>'
    return f'<article class="card"><header>{head}</header>\n{body}\n</article>'


def _html_facts(block: Facts) -> str:
    rows = (f"<div><dt>{_h(label)}</dt><dd>{_inline(value)}</dd></div>" for label, value in block.rows)
    return f"<dl>{''.join(rows)}</dl>"


def _html_items(items: Iterable[Sequence[Inline]]) -> str:
    return "<ul>" + "".join(f"<li>{_parts(item)}</li>" for item in items) + "</ul>"


def _html_listing(block: Listing) -> str:
    text = block.text.strip("\n")
    return f'<pre class="{_h(block.language)}"><code>{_sql(text) if block.language == "sql" else _h_code(text)}</code></pre>'


_HTML: Dict[type, Callable[[Any], str]] = {
    Heading: lambda block: f'<h{block.level} id="{_slug(block.text)}">{_h(block.text)}</h{block.level}>',
    Paragraph: lambda block: f"<p>{_parts(block.parts)}</p>",
    Facts: _html_facts,
    Table: _html_table,
    Bullets: lambda block: _html_items(block.items),
    Listing: _html_listing,
    Card: _html_card,
    Notice: lambda block: (
        f'<aside class="notice {block.tone}"><h3>{_h(block.title)}</h3>{_html_items(block.items)}</aside>'
    ),
}


def _html_block(block: Block) -> str:
    return _HTML[type(block)](block)


_STYLE = """
:root{color-scheme:light dark;--paper:#fdfdfb;--card:#fff;--ink:#1c1e21;--soft:#5c6269;--line:#dcdfe3;--wash:#f3f4f2;
--accent:#1f5a8a;--good:#1d6b42;--good-wash:#e6f3ec;--watch:#8a5300;--watch-wash:#fdf1dc;--bad:#a3231f;--bad-wash:#fbe9e8;
--string:#7a3e00;--comment:#6b7280}
@media (prefers-color-scheme:dark){:root{--paper:#141618;--card:#1b1e21;--ink:#e4e6e8;--soft:#9aa2aa;--line:#33383d;--wash:#202428;
--accent:#7db8e8;--good:#6fce9b;--good-wash:#16301f;--watch:#f0b75c;--watch-wash:#33260f;--bad:#f28b86;--bad-wash:#3a1a19;
--string:#e5b07b;--comment:#8b949e}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:1rem}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
main{max-width:70rem;margin:0 auto;padding:3rem 1.5rem 5rem}
h1,h2,h3,h4{line-height:1.25;text-wrap:balance;margin:0}
h1{font-size:2rem;letter-spacing:-.015em;font-weight:650}
h2{font-size:1.4rem;font-weight:650;margin:3.25rem 0 .9rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;font-weight:650;margin:1.9rem 0 .6rem}
h4{font-size:1rem;font-weight:600}
p,ul{max-width:44rem;margin:.6rem 0}
ul{padding-left:1.2rem}li{margin:.25rem 0}li::marker{color:var(--soft)}
.label{color:var(--soft);font-size:.82rem;font-weight:600;letter-spacing:.06em;text-transform:uppercase;margin:0 0 .5rem}
.lead{font-size:1.12rem;color:var(--soft);max-width:44rem;margin:.7rem 0 0}
.digest{margin:1.6rem 0 0;padding:.9rem 1.1rem;border:1px solid var(--line);border-left:4px solid var(--accent);background:var(--card);border-radius:.3rem}
.digest b{display:block;font-size:.82rem;color:var(--soft);font-weight:600}
.digest code{background:none;padding:0;font-size:1rem;overflow-wrap:anywhere}
nav{margin:1.6rem 0 0;font-size:.93rem;columns:3 14rem}
nav a{display:block;padding:.12rem 0;break-inside:avoid}
a{color:var(--accent);text-decoration-thickness:1px;text-underline-offset:.15em}
code,pre{font-family:ui-monospace,"SF Mono",SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
:not(pre)>code{background:var(--wash);padding:.08em .3em;border-radius:.25em;overflow-wrap:anywhere}
pre{margin:.7rem 0 0;padding:.85rem 1rem;background:var(--wash);border-radius:.3rem;line-height:1.5;tab-size:4;white-space:pre-wrap;overflow-wrap:anywhere}
pre code{font-size:1em}
pre.sh{border-left:3px solid var(--accent)}
pre b{font-weight:650}.string{color:var(--string)}.comment{color:var(--comment);font-style:italic}
b.hidden{background:var(--bad-wash);color:var(--bad)}
table{border-collapse:collapse;width:100%;margin:.8rem 0;font-size:.93rem}
th{text-align:left;font-weight:600;color:var(--soft);font-size:.85rem;border-bottom:1px solid var(--line);padding:.35rem .9rem .35rem 0;vertical-align:bottom}
td{border-bottom:1px solid var(--line);padding:.42rem .9rem .42rem 0;vertical-align:top}
th:last-child,td:last-child{padding-right:0}td>code{overflow-wrap:break-word!important}
.n{text-align:right;white-space:nowrap}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:.9rem 2rem;margin:1.4rem 0}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;overflow-wrap:anywhere}
.card{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.9rem 1.1rem 1rem;margin:.9rem 0}
.card header,summary{display:flex;flex-wrap:wrap;gap:.35rem .6rem;align-items:baseline}
summary{cursor:pointer;list-style:none}summary::-webkit-details-marker{display:none}
summary::before{content:"\\203A";color:var(--soft);width:.7em;font-weight:700}details[open]>summary::before{content:"\\2304"}
details.card{padding:.55rem 1.1rem;margin:.45rem 0}details.card[open]{padding-bottom:1rem}
summary:focus-visible,a:focus-visible{outline:2px solid var(--accent);outline-offset:3px;border-radius:.2rem}
.card h4{flex:1 1 8rem}
.card p,.card ul{font-size:.95rem}.card table{margin-bottom:0}.card tr:last-child td{border-bottom:0}
.badge{font-size:.8rem;font-weight:600;padding:.1rem .5rem;border-radius:.3rem;background:var(--wash);color:var(--soft);white-space:nowrap}
.badge.good{background:var(--good-wash);color:var(--good)}.badge.watch{background:var(--watch-wash);color:var(--watch)}
.badge.bad{background:var(--bad-wash);color:var(--bad)}
.notice{margin:1.4rem 0;padding:.9rem 1.2rem;border-radius:.4rem;background:var(--wash)}
.notice h3{margin:0 0 .3rem}.notice ul{max-width:none;margin:.3rem 0 0}
.notice.good{background:var(--good-wash)}.notice.watch{background:var(--watch-wash)}.notice.bad{background:var(--bad-wash)}
.notice.good h3{color:var(--good)}.notice.watch h3{color:var(--watch)}.notice.bad h3{color:var(--bad)}
.notice code{background:none;padding:0}
footer{margin-top:4rem;color:var(--soft);font-size:.85rem}
@media (max-width:40rem){main{padding:1.6rem 1rem 3rem}h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.5rem}
.card{padding:.8rem .85rem}pre{font-size:.8rem}
table,tbody,tr,td{display:block}thead{display:none}
tr{padding:.55rem 0;border-bottom:1px solid var(--line)}td{border:0;padding:.1rem 0;display:grid;grid-template-columns:7.2rem 1fr;gap:.6rem}
td::before{content:attr(data-label);color:var(--soft);font-size:.85rem}td>code{min-width:0;justify-self:start;overflow-wrap:anywhere!important}
td:empty{display:none}.n{text-align:left;white-space:normal}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--wash:#f4f4f4;--accent:#000;--good:#0b4d2b;--good-wash:#fff;
--watch:#6b4000;--watch-wash:#fff;--bad:#8b0000;--bad-wash:#fff;--string:#5a2e00;--comment:#555}
@page{margin:18mm 16mm}html{font-size:9.5pt}main{max-width:none;padding:0}nav{display:none}
h2,h3,h4,header,summary{break-after:avoid}tr,li,dl div,.card{break-inside:avoid}.notice{border:1px solid var(--line)}
details::details-content{content-visibility:visible;display:block}summary::before{display:none}}
"""


def render_page(document: Document) -> str:
    """Return the document as one HTML page that needs nothing else."""
    links = [block for block in document.blocks if isinstance(block, Heading) and block.level == 2]  # noqa: PLR2004
    nav = "".join(f'<a href="#{_slug(block.text)}">{_h(block.text)}</a>' for block in links)
    body = "\n".join(_html_block(block) for block in document.blocks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_h(document.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<p class="label">{_h(document.label)}</p>
<h1>{_h(document.title)}</h1>
<p class="lead">{_h(document.lead)}</p>
<div class="digest"><b>SHA-256 of plan.json, the digest to approve</b><code>{_h(document.digest)}</code></div>
<nav aria-label="Contents">{nav}</nav>
{body}
</main>
</body>
</html>
"""
