"""Every ``console`` block of the pages is run, in order, page by page, against a service that knows nothing yet.

``<!-- not run: why -->`` above a block exempts it; ``<!-- exact -->`` means that its command must print exactly what it shows.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cluster import CONFIG
from support.service import Service

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if re.search(r"^```console", page.read_text(), re.MULTILINE)
]
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^>]*) -->\n)?^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """The mark, commands and output of each block."""
    for found in BLOCK.finditer(page.read_text()):
        body = re.sub(r"\\\n *", "", found["body"])
        commands = "\n".join(line[2:] for line in body.splitlines() if line.startswith("$ "))
        output = "".join(line + "\n" for line in body.splitlines() if not line.startswith("$ "))
        yield found["mark"] or "", commands, output


def script(page: Path) -> str:
    """One bash script of the whole page: variables that a block sets are there for the next."""
    parts = ["set -eo pipefail"]
    for mark, commands, output in blocks(page):
        assert commands, f"{page.name}: a console block without a command"
        if mark.startswith("not run: "):
            continue
        if mark == "exact":
            parts.append(f"got=$({commands})")
            parts.append(f"wanted=$(cat <<'WANTED'\n{output}WANTED\n)")
            parts.append('[[ $got == "$wanted" ]] || { echo "got: $got"; exit 9; }')
        else:
            assert not mark, f"{page.name}: unknown mark {mark}"
            parts.append("set -x\n" + commands + "\n{ set +x; } 2>/dev/null")
    return "\n".join(parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_page_work(serve: Callable[..., Service], place: Path, page: Path) -> None:
    text = script(page)
    if "strongroom " not in text:
        pytest.skip("the page has nothing to run")
    service = serve(config=CONFIG)
    (place / "home").mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
        "HOME": str(place / "home"),
        "SCRATCH": str(place),
        "LANG": "C.UTF-8",
        "STRONGROOM_URL": service.url,
        "STORE": str(service.data_dir / "store"),
    }
    ran = subprocess.run(
        ["bash", "-c", text],
        cwd=place / "home",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


def test_the_pages_that_come_from_the_code_are_up_to_date() -> None:
    ran = subprocess.run([sys.executable, ROOT / "scripts" / "pages.py", "--check"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", page.read_text()):
        if target and not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    assert not re.search(r"^(<<<<<<<|>>>>>>>) ", page.read_text(), re.MULTILINE), f"{page.name} has a conflict of a merge"
