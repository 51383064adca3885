# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The style sheet and the script of every HTML page. Pure data; no text of a document comes into either."""

from __future__ import annotations

#: Light and dark, from 320 px to paper. On paper what is folded stays folded.
STYLE = """
:root{color-scheme:light dark;--paper:#fdfdfb;--card:#fff;--ink:#1c1e21;--soft:#565c63;--line:#dcdfe3;--wash:#f3f4f2;
--accent:#1f5a8a;--good:#1d6b42;--good-wash:#e6f3ec;--watch:#7d4b00;--watch-wash:#fdf1dc;--bad:#a3231f;--bad-wash:#fbe9e8;
--string:#7a3e00;--comment:#565e6a;--rail:#e6e8ea}
@media (prefers-color-scheme:dark){:root{--paper:#141618;--card:#1b1e21;--ink:#e4e6e8;--soft:#a5adb5;--line:#33383d;--wash:#202428;
--accent:#7db8e8;--good:#6fce9b;--good-wash:#16301f;--watch:#f0b75c;--watch-wash:#33260f;--bad:#f59a95;--bad-wash:#3a1a19;
--string:#e5b07b;--comment:#9aa3ad;--rail:#2a2f34}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:1rem}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}code,pre,dd,tbody th,.board .what,h1,h2,h3,h4,.row,.tree li{overflow-wrap:anywhere}
header.page,body>nav,.tools,main{max-width:72rem;margin:0 auto;padding:0 1.5rem}
header.page{padding-top:2.6rem}main{padding-bottom:5rem}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.4rem .8rem;z-index:2}
h1,h2,h3,h4,h5{line-height:1.25;margin:0}h1,h2{text-wrap:balance}
h1{font-size:1.9rem;letter-spacing:-.015em;font-weight:650}
h2{font-size:1.35rem;font-weight:650;margin:3rem 0 .9rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;font-weight:650;margin:1.7rem 0 .6rem}h4,h5{font-size:1rem;font-weight:600}
p,main ul{max-width:48rem;margin:.6rem 0}
ul{padding-left:1.2rem}li{margin:.25rem 0}li::marker{color:var(--soft)}
.label{color:var(--soft);font-size:.82rem;font-weight:600;letter-spacing:.06em;text-transform:uppercase;margin:0 0 .5rem}
.lead{font-size:1.12rem;color:var(--soft);margin:.7rem 0 0}
.verdict{max-width:none;margin:1.2rem 0 0;padding:.9rem 1.2rem;border-radius:.4rem;background:var(--wash);border-left:.4rem solid var(--soft);
font-size:1.08rem}
.verdict b{margin-right:.4rem}
.verdict.good{background:var(--good-wash);border-color:var(--good)}.verdict.good b{color:var(--good)}
.verdict.watch{background:var(--watch-wash);border-color:var(--watch)}.verdict.watch b{color:var(--watch)}
.verdict.bad{background:var(--bad-wash);border-color:var(--bad)}.verdict.bad b{color:var(--bad)}
.digest{margin:1.4rem 0 0;padding:.9rem 1.1rem;border:1px solid var(--line);border-left:4px solid var(--accent);background:var(--card);border-radius:.3rem}
.digest b{display:block;font-size:.82rem;color:var(--soft);font-weight:600}.digest code{background:none;padding:0;font-size:1rem}
body>nav{margin-top:1.6rem;font-size:.93rem}
body>nav a{display:inline-block;padding:.15rem 0;margin-right:1.1rem}
a{color:var(--accent);text-decoration-thickness:1px;text-underline-offset:.15em}
code,pre{font-family:ui-monospace,"SF Mono",SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
:not(pre)>code{background:var(--wash);padding:.08em .3em;border-radius:.25em}
pre{margin:.7rem 0 0;padding:.85rem 1rem;background:var(--wash);border-radius:.3rem;line-height:1.5;tab-size:4;white-space:pre-wrap;max-height:40rem;
overflow:auto}
pre code{font-size:1em}pre.sql{max-height:none}pre.sh,pre.console{border-left:3px solid var(--accent)}
pre b{font-weight:650}.string{color:var(--string)}.comment{color:var(--comment);font-style:italic}
b.hidden{background:var(--bad-wash);color:var(--bad)}
table{border-collapse:collapse;width:100%;margin:.8rem 0;font-size:.92rem}
thead th{text-align:left;overflow-wrap:normal;font-weight:600;color:var(--soft);font-size:.85rem;border-bottom:1px solid var(--line);
padding:.35rem .9rem .35rem 0;vertical-align:bottom}
tbody th{min-width:4.5rem}tbody th,td{font-weight:inherit;text-align:left;border-bottom:1px solid var(--line);padding:.42rem .9rem .42rem 0;
vertical-align:top}
thead td{border-bottom:1px solid var(--line)}
tr>:last-child{padding-right:0}
.n{text-align:right!important;white-space:nowrap}
.time tr>:last-child{width:22%;min-width:7rem}
svg.bar{display:block;width:100%;height:.6rem;margin-top:.45rem}
.rail{fill:var(--rail)}rect.plain{fill:var(--accent)}rect.good{fill:var(--good)}rect.watch{fill:var(--watch)}rect.bad{fill:var(--bad)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(17rem,100%),1fr));gap:.8rem 2rem;margin:1.3rem 0}
dt{color:var(--soft);font-size:.85rem}dd{margin:0}
summary{cursor:pointer;list-style:none;display:flex;flex-wrap:wrap;gap:.25rem .6rem;align-items:baseline}
summary::-webkit-details-marker{display:none}
summary::before{content:"\\203A";content:"\\203A" / "";color:var(--soft);width:.7em;font-weight:700;flex:none}
details[open]>summary::before{content:"\\2304";content:"\\2304" / ""}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:.2rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.9rem 1.1rem 1rem;margin:.9rem 0}
.card header{display:flex;flex-wrap:wrap;gap:.35rem .6rem;align-items:baseline}
details.card{padding:.55rem 1.1rem;margin:.45rem 0}details.card[open]{padding-bottom:1rem}
.card h3,.card h4,.card h5{flex:1 1 8rem;margin:0}
.card p,.card ul{font-size:.95rem}.card table{margin-bottom:0}.card tr:last-child>*{border-bottom:0}
.badge{display:inline-block;max-width:100%;overflow-wrap:break-word;font-size:.8rem;font-weight:600;padding:.1rem .5rem;
border-radius:.3rem;background:var(--wash);color:var(--soft);white-space:nowrap}
.badge.good{background:var(--good-wash);color:var(--good)}.badge.watch{background:var(--watch-wash);color:var(--watch)}
.badge.bad{background:var(--bad-wash);color:var(--bad)}
main ul.board{list-style:none;max-width:none;padding:0;margin:.8rem 0;border-top:1px solid var(--line)}
.board li{margin:0;border-bottom:1px solid var(--line);padding:.4rem 0}.board li p{margin:0;max-width:none;display:flex;flex-wrap:wrap;
gap:.25rem .6rem;align-items:baseline;padding-left:calc(.7em + .6rem)}
.board .id{min-width:4.2rem}.board .what{flex:1 1 14rem}.board .badge{min-width:8.8rem;text-align:center}
td .badge{white-space:normal;min-width:4.6rem;text-align:center}
.board dl{grid-template-columns:1fr;gap:.3rem;margin:.5rem 0 .3rem calc(.7em + .6rem)}.board dl div{display:grid;grid-template-columns:5.5rem 1fr;gap:.6rem}
main ul.tree{list-style:none;padding-left:1.1rem;max-width:none;margin:.2rem 0}main>ul.tree{padding-left:0;margin:.8rem 0}
.tree li{margin:.15rem 0}.tree li>.badge{margin-left:.5rem}.tree .rest{color:var(--soft)}.tree li>.rest{margin-left:.5rem}
.tree summary{display:block;padding-left:1.3rem;text-indent:-1.3rem}.tree summary>*{text-indent:0}.tree summary::before{display:inline-block;
width:1.3rem;text-indent:0}.tree summary>.badge{margin-left:.5rem}.tree summary>.rest{display:block}
.notice{margin:1.4rem 0;padding:.9rem 1.2rem;border-radius:.4rem;background:var(--wash)}
.notice .title{margin:0 0 .3rem;font-weight:650}.notice ul{max-width:none;margin:.3rem 0 0}
.notice.good{background:var(--good-wash)}.notice.watch{background:var(--watch-wash)}.notice.bad{background:var(--bad-wash)}
.notice.good .title{color:var(--good)}.notice.watch .title{color:var(--watch)}.notice.bad .title{color:var(--bad)}
.notice code{background:none;padding:0}
.tools{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem auto 0;align-items:center}
.tools input{flex:1 1 9rem;min-width:0;max-width:24rem;font:inherit;padding:.3rem .6rem;border:1px solid var(--soft);border-radius:.3rem;background:var(--card);
color:inherit}
button{font:inherit;font-size:.8rem;padding:.1rem .5rem;border:1px solid var(--line);border-radius:.3rem;background:var(--card);color:var(--soft);
cursor:pointer}
button.copy{margin-left:.4rem;padding:0 .4rem}pre>button.copy{float:right;margin:0}
[hidden]{display:none!important}
@media screen and (min-width:75.01rem){tbody th,td>code,tbody th>code{overflow-wrap:break-word}}
@media screen and (min-width:48.01rem) and (max-width:75rem){td,td>.badge{overflow-wrap:anywhere}}
@media screen and (max-width:48rem){header.page,body>nav,.tools,main{padding-left:1rem;padding-right:1rem}header.page{padding-top:1.4rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2.3rem}.card{padding:.8rem .85rem}pre{font-size:.8rem}
table,tbody,tr,tbody th,td{display:block}thead{display:none}
tbody tr{padding:.55rem 0;border-bottom:1px solid var(--line)}tbody th,td{border:0;padding:.1rem 0;display:grid;
grid-template-columns:6.8rem minmax(0,1fr);gap:.6rem}
tbody th::before,td::before{content:attr(data-label);color:var(--soft);font-size:.85rem}tbody th>*,td>*{min-width:0;justify-self:start}
tbody th:first-child{font-weight:650}td:empty{display:none}.n{text-align:left!important;white-space:normal}td>svg.bar{justify-self:stretch}
.time tr>:last-child{width:auto}dl{grid-template-columns:1fr;gap:.35rem}dl div{display:grid;grid-template-columns:6.8rem minmax(0,1fr);gap:.6rem}
.board dl div{grid-template-columns:1fr;gap:0}.board dl{margin-left:0}.badge{white-space:normal}.board .badge{min-width:0}
button.copy{grid-column:2;justify-self:start;margin-left:0}}
@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--wash:#f4f4f4;--accent:#000;--good:#0b4d2b;
--good-wash:#fff;
--watch:#6b4000;--watch-wash:#fff;--bad:#8b0000;--bad-wash:#fff;--string:#5a2e00;--comment:#555;--rail:#e6e6e6}
@page{size:A4;margin:11mm 12mm}html{font-size:7.5pt}body{line-height:1.4}header.page,body>nav,main{max-width:none;padding:0}
body>nav,.tools,button,.skip{display:none!important}
p,main ul{max-width:none}.card{padding:.5rem .8rem .6rem;margin:.5rem 0}.card pre{margin-top:.35rem;padding:.4rem .6rem}
.time tr>:last-child{width:14%}main ul.board{columns:2;column-gap:2rem}.board .badge{min-width:7.2rem;padding:0;text-align:left}.board .what{flex-basis:9rem}
h2{margin:1.3rem 0 .5rem;padding-top:.5rem}h2,h3,h4,header,summary{break-after:avoid}tr,li,dl div{break-inside:avoid}
.notice,.verdict{border:1px solid var(--line)}
pre{max-height:none}svg.bar{print-color-adjust:exact;-webkit-print-color-adjust:exact}
dl{grid-template-columns:repeat(3,1fr);gap:.4rem 1.2rem;margin:.8rem 0}.board dl{grid-template-columns:1fr}tbody th,td{padding-top:.2rem;
padding-bottom:.2rem}.board li{padding:.15rem 0}}
"""

#: What is better with it: copy buttons, a filter, folding everything at once. Without it the page has the same content.
SCRIPT = """
(function(){"use strict";
function button(text,label,act){var b=document.createElement("button");b.type="button";b.textContent=text;
if(label)b.setAttribute("aria-label",label);b.addEventListener("click",function(e){e.preventDefault();act(b)});return b}
function copied(b,ok){b.textContent=ok?"copied":"select it";setTimeout(function(){b.textContent="copy"},1500)}
function copy(node,text,b){function chosen(){var r=document.createRange();r.selectNodeContents(node);var s=getSelection();
s.removeAllRanges();s.addRange(r);var ok=false;try{ok=document.execCommand("copy")}catch(e){}copied(b,ok)}
if(navigator.clipboard)navigator.clipboard.writeText(text).then(function(){copied(b,true)},chosen);else chosen()}
document.querySelectorAll("code.copy,pre.copy").forEach(function(node){
var inner=node.tagName==="PRE"?node.querySelector("code"):node,text=inner.textContent.replace(/^\\$ /,"");
var b=button("copy","Copy "+text.slice(0,24),function(b){copy(inner,text,b)});b.className="copy";
if(node.tagName==="PRE")node.insertBefore(b,inner);else node.after(b)});
var main=document.querySelector("main"),folds=document.querySelectorAll("main details"),before=null;
var tools=document.createElement("div"),input=document.createElement("input");tools.className="tools";tools.setAttribute("role","search");
input.type="search";input.placeholder="Filter rows";input.setAttribute("aria-label","Filter rows, objects and checks");
function all(open){folds.forEach(function(d){d.open=open})}
tools.append(input);if(folds.length)tools.append(button("unfold all","",function(){all(true)}),button("fold all","",function(){all(false)}));
main.before(tools);
var rows=null,timer=0;
function filter(){var word=input.value.trim().toLowerCase();
if(!rows)rows=Array.prototype.map.call(document.querySelectorAll("main tbody tr,main .board>li,main .tree li"),function(r){
return{node:r,text:r.textContent.toLowerCase()}});
if(word&&!before)before=Array.prototype.map.call(folds,function(d){return d.open});
if(!word&&before){folds.forEach(function(d,i){d.open=before[i]});before=null}
var hits=0;rows.forEach(function(r){var hit=!word||r.text.indexOf(word)>=0;r.node.hidden=!hit;
if(word&&hit&&hits++<500)for(var d=r.node.parentElement;d;d=d.parentElement)if(d.tagName==="DETAILS")d.open=true})}
input.addEventListener("input",function(){clearTimeout(timer);timer=setTimeout(filter,150)});
})();
"""
