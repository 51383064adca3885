# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML pages of real runs in a real browser: on a desk, on a phone, light and dark, on paper, without a script."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import pytest
from ansible_collections.incomex.phasegate.tests.support.browser import NoBrowserError, chromium
from ansible_collections.incomex.phasegate.tests.support.playbook import play, write_inventory
from ansible_collections.incomex.phasegate.tests.support.target import Target
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from playwright.sync_api import Browser, BrowserContext, Page

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
REFUSING = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not today'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON public.tac_logical_unit EXECUTE FUNCTION public.refuse();
"""
#: Each page with the most sheets of A4 that it may need.
PAGES = {"success": 6, "rolled-back": 6, "rehearsal": 6, "review": 9, "status": 1, "rollup": 1}
#: Those that say first how a run ended, and have gates.
REPORTS = {"success": "SUCCESS", "rolled-back": "ROLLED_BACK"}


@pytest.fixture(scope="module")
def pages(
    cluster: Cluster, rehearsal_cluster: Cluster, phase_alpha_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """Every kind of page, as runs wrote it, by its name."""
    directory = tmp_path_factory.mktemp("pages")
    names = ("pages_a", "pages_b", "pages_c")
    for name in names:
        cluster.create_database(name, phase_alpha_template)
    first, second, third = (Target(cluster, name, directory / name) for name in names)
    first.directory.mkdir()
    cluster.psql(REFUSING, third.database)
    rehearsed = first.rehearse(rehearsal_cluster)
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (first.directory / "plans").glob("*/plan.json")
    executed = first.play(extra_vars={"phasegate_plan": str(plan)})
    assert executed.rc == 0, executed.stdout
    inventory = write_inventory(directory / "hosts.yml", {one.database: one.entry() for one in (second, third)})
    results = directory / "results"
    fleet = play(
        directory,
        "playbooks/phase_alpha.yml",
        inventory=inventory,
        limit="all",
        extra_vars={"phasegate_rollup": str(results)},
    )
    assert "not today" in fleet.messages
    shown = {"phasegate_status": str(directory)}
    status = play(directory, "playbooks/status.yml", inventory=inventory, limit="all", extra_vars=shown)
    assert status.rc == 0, status.stdout
    runs = {bundle.json("report.json")["kind"]: bundle.path for bundle in first.bundles()}
    yield {
        "success": runs["execute"] / "report.html",
        "rehearsal": runs["rehearsal"] / "report.html",
        "rolled-back": third.bundle().path / "report.html",
        "review": plan.with_name("review.html"),
        "status": directory / "status.html",
        "rollup": results / "execute_alpha.html",
    }
    for name in names:
        cluster.drop_database(name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    try:
        with chromium() as started:
            yield started
    except NoBrowserError as error:
        if os.environ.get("CI"):
            pytest.fail(f"no browser: {error}")
        pytest.skip(f"no browser: {error}")


def opened(context: BrowserContext, file: Path) -> tuple[Page, list[str]]:
    """Open a page; what it complains about, and what it asks for beside itself, is added to the list."""
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    return page, said


def violations(page: Page) -> list[str]:
    """Return what axe-core has against a page: the rule, and the first element."""
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate(
        "axe.run({resultTypes: ['violations'], rules: {'target-size': {enabled: true}}})"
    )
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]


def too_wide(page: Page) -> list[str]:
    """Return what reaches beyond the right edge of the text, or of the window; a listing may scroll within itself."""
    script = """() => {
      const main = document.querySelector("main");
      const edge = main.getBoundingClientRect().right - parseFloat(getComputedStyle(main).paddingRight) + 1;
      const out = [...document.querySelectorAll("body :not(pre *)")].filter(one => one.getBoundingClientRect().right > edge
        && (main.contains(one) && one !== main || one.getBoundingClientRect().right > innerWidth));
      return out.map(one => one.outerHTML.slice(0, 120));
    }"""
    return list(page.evaluate(script))


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_is_accessible(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page, said = opened(context, pages[name])
        assert too_wide(page) == []
        unfold(page)
        assert too_wide(page) == []
        assert violations(page) == []
        for other in (320, 800):
            page.set_viewport_size({"width": other, "height": 900})
            assert too_wide(page) == []
        assert said == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_script(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page, said = opened(context, pages[name])
        assert page.locator("h1").is_visible()
        if name in REPORTS:
            assert page.locator(".verdict").is_visible()
            assert page.locator(".verdict b").inner_text().startswith(REPORTS[name])
            gates = page.locator("#gates + .board > li")
            assert gates.count() == 11
            assert all(gates.nth(number).is_visible() for number in range(11))
            # a fold is the browser's own
            gates.nth(1).locator("summary").click()
            assert gates.nth(1).locator("dd").first.is_visible()
        assert page.locator(".tools, button").count() == 0
        assert said == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints_on_few_sheets(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with browser.new_context(color_scheme="dark") as context:
        page, _said = opened(context, pages[name])
        printed = page.pdf(prefer_css_page_size=True)
    sheets = re.findall(rb"/Type\s*/Page\b", printed)
    assert 0 < len(sheets) <= PAGES[name]


def test_the_keyboard_reaches_everything(browser: Browser, pages: dict[str, Path]) -> None:
    with browser.new_context(viewport={"width": 390, "height": 900}) as context:
        page, _said = opened(context, pages["success"])
        page.keyboard.press("Tab")
        skip = page.locator(".skip")
        assert skip.evaluate("one => one === document.activeElement")
        box = skip.bounding_box()
        assert box
        assert box["x"] >= 0
        page.keyboard.press("Enter")
        assert page.url.endswith("#content")
        fold = page.locator("#gates + .board summary").nth(1)
        assert fold.evaluate("one => { one.focus(); return getComputedStyle(one).outlineStyle }") == "solid"
        page.keyboard.press("Enter")
        assert page.locator("#gates + .board details").nth(1).evaluate("one => one.open")


def test_the_script_adds_a_filter_folds_and_copying(browser: Browser, pages: dict[str, Path]) -> None:
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page, said = opened(context, pages["success"])
        report = json.loads((pages["success"].parent / "report.json").read_text(encoding="utf-8"))
        page.get_by_role("button", name="unfold all").click()
        assert page.locator("main details:not([open])").count() == 0
        page.get_by_role("button", name="fold all", exact=True).click()
        assert page.locator("main details[open]").count() == 0
        page.get_by_role("searchbox").fill("VA-13rows")
        shown = page.locator("main .board > li:visible .id")
        expect(shown).to_have_count(1)
        assert shown.inner_text() == "VA-13rows"
        page.get_by_role("searchbox").fill("")
        page.locator("#gates + .board > li").first.wait_for()
        page.get_by_role("button", name=f"Copy {report['digests']['plan'][:24]}").first.click()
        page.get_by_text("copied", exact=True).first.wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == report["digests"]["plan"]
        assert said == []
