"""Pages of the documentation as scripts: every ``console`` block is run as it stands.

``<!-- not run: why -->`` above a block exempts it; ``<!-- exact -->`` means that its command must print exactly what it shows;
``<!-- fails -->`` that its last command must fail.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^>]*) -->\n)?^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (?P<title>.*)$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """The text below each heading of the second level, by heading. What stands before the first is left out."""
    found = list(_SECTION.finditer(text))
    ends = [section.start() for section in found[1:]] + [len(text)]
    return {section["title"]: text[section.end() : end] for section, end in zip(found, ends, strict=True)}


def script(text: str) -> str:
    """One bash script of all blocks: variables that a block sets are there for the next."""
    parts = ["set -eo pipefail"]
    for mark, commands, output in _blocks(text):
        assert commands, "a console block without a command"
        if mark.startswith("not run: "):
            continue
        if mark == "exact":
            parts.append(f"got=$({commands})")
            parts.append(f"wanted=$(cat <<'WANTED'\n{output}WANTED\n)")
            parts.append('[[ $got == "$wanted" ]] || { echo "got: $got"; exit 9; }')
        elif mark == "fails":
            parts.append(f"set -x\nif {commands}; then echo 'it did not fail'; exit 9; fi\n{{ set +x; }} 2>/dev/null")
        else:
            assert not mark, f"unknown mark {mark}"
            parts.append("set -x\n" + commands + "\n{ set +x; } 2>/dev/null")
    return "\n".join(parts)


def run_script(
    text: str, home: Path, environment: Mapping[str, str], *, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run it in the new directory ``home`` with nothing of this environment; it must succeed."""
    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        [*prefix, "bash", "-c", text],
        cwd=home,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran


def _blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """The mark, commands and output of each block."""
    for found in _BLOCK.finditer(text):
        body = re.sub(r"\\\n *", "", found["body"])
        commands = "\n".join(line[2:] for line in body.splitlines() if line.startswith("$ "))
        output = "".join(line + "\n" for line in body.splitlines() if not line.startswith("$ "))
        yield found["mark"] or "", commands, output
