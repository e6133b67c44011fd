"""Every ``console`` block of the pages is run, in order, page by page, against a service that knows nothing yet.

The runbook is left out: its sections need what they are about, which test_runbook.py breaks.
"""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import CONFIG
from support.pages import ROOT, run_script, script
from support.service import Service

PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if re.search(r"^```console", page.read_text(), re.MULTILINE) and page.name != "runbook.md"
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_page_work(serve: Callable[..., Service], place: Path, page: Path) -> None:
    text = script(page.read_text())
    if "strongroom " not in text:
        pytest.skip("the page has nothing to run")
    service = serve(config=CONFIG)
    store = str(service.data_dir / "store")
    run_script(text, place / "home", {"SCRATCH": str(place), "STRONGROOM_URL": service.url, "STORE": store})


def test_rejected_words_are_found_in_text_and_not_in_code() -> None:
    words = runpy.run_path(str(ROOT / "scripts" / "words.py"))
    text = "The job\ngoes\non. `anew`\n\n```sh\nanew\n```\n<!-- x: begin -->\nanew\n<!-- x: end -->\nIt begins [anew](anew.md).\n"
    assert [(line, phrase) for line, phrase, _ in words["find_phrases"](words["blank_code"](text))] == [
        (2, "goes on"),
        (11, "anew"),
    ]
    module = (
        'def made_anew(goes: int) -> None:\n    """It\n    goes on."""\n    goes(on)  # "anew"\n    raise Error("goes" f" on")\n'
    )
    assert [(line, phrase) for line, phrase, _ in words["find_phrases"](words["blank_syntax"](module))] == [
        (1, "anew"),
        (3, "goes on"),
        (4, "anew"),
        (5, "goes on"),
    ]


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
def test_man_pages_are_well_formed_and_describe_every_command() -> None:
    pages = sorted((ROOT / "docs" / "man").glob("*.1"))
    ran = subprocess.run(["groff", "-man", "-ww", "-z", *pages], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    text = "".join(page.read_text(encoding="ascii") for page in pages)
    assert not re.search(r"^\.PP\n\.(TP|SH|SS|PP)", text, re.MULTILINE)  # mandoc warns of empty paragraphs
    for title in re.findall(r"^## strongroom (.+)$", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE):
        escaped = title.replace("-", "\\-")
        assert f"strongroom\\-{escaped.split()[0]}" in text, title
        assert " " not in title or f".SS strongroom {escaped}" in text, title


def test_the_pages_that_come_from_the_code_are_up_to_date() -> None:
    ran = subprocess.run([sys.executable, ROOT / "scripts" / "pages.py", "--check"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page.name} links to {target}#{anchor}"
    assert not re.search(r"^(<<<<<<<|>>>>>>>) ", page.read_text(), re.MULTILINE), f"{page.name} has a conflict of a merge"
