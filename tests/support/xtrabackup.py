"""Stands in for Percona XtraBackup, which Debian does not have: its arguments, files, words and exit statuses by its manual.

Called as the program it backs two small files up, or prepares them; what it was asked is in ``asked`` beside it, what it shall do
wrong in ``wrong``. It knows its own streams only by the stock mbstream, whose format is the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
GTID = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
SCRIPT = "#!{python}\nimport sys; sys.argv[0] = {place!r}; exec(compile(open({source!r}).read(), {source!r}, 'exec'))\n"


def place(directory: Path, number: str, server: str) -> Path:
    """Make the program in ``directory``: of this version, for backups of a server of the other."""
    (directory / "numbers").write_text(json.dumps([number, server]))
    program = directory / "xtrabackup"
    program.write_text(SCRIPT.format(python=sys.executable, place=str(program), source=str(HERE / "xtrabackup.py")))
    program.chmod(0o755)
    (directory / "asked").touch()
    (directory / "asked").chmod(0o666)
    return program


def asked(directory: Path) -> list[list[str]]:
    """The arguments of each call."""
    return [json.loads(line) for line in (directory / "asked").read_text().splitlines()]


def _main() -> int:
    home = Path(sys.argv[0]).parent
    number, server = json.loads((home / "numbers").read_text())
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"xtrabackup version {number} based on MySQL server {number} Linux (x86_64) (revision id: 0)", file=sys.stderr)
        return 0
    with (home / "asked").open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    wrong = (home / "wrong").read_text().split() if (home / "wrong").exists() else []
    options = dict(argument.partition("=")[::2] for argument in arguments)
    if "fail" in wrong:
        print("[ERROR] [MY-011825] [Xtrabackup] Lost connection to MySQL server", file=sys.stderr)
        return 1
    _back_up(options, server) if "--backup" in options else _prepare(options)
    print(
        "2026-11-29T01:00:00 0 [Note] [MY-011825] [Xtrabackup] " + ("…" if "mute" in wrong else "completed OK!"), file=sys.stderr
    )
    return 0


def _back_up(options: dict[str, str], server: str) -> None:
    start = int(options.get("--incremental-lsn", "0"))
    end = start + 1000
    kind = "incremental" if start else "full-backuped"
    checkpoints = f"backup_type = {kind}\nfrom_lsn = {start}\nto_lsn = {end}\nlast_lsn = {end + 9}\nflushed_lsn = {end}\n"
    info = (
        f"uuid = 1\ntool_name = xtrabackup\nserver_version = {server}\nformat = xbstream\ncompressed = N\nencrypted = N\n"
        f"binlog_pos = filename 'binlog.000002', position '157', GTID of the last change '{GTID}'\n"
    )
    work = Path(options["--target-dir"]) / "staging"
    (work / "mysql").mkdir(parents=True)
    files = {"ibdata1": f"{end}", "mysql/db.ibd": "d", "backup-my.cnf": "[mysqld]\n", "binlog.000002": "b", "binlog.index": "b"}
    if start:
        files = {"ibdata1.delta": f"{end}", "ibdata1.meta": "m", "backup-my.cnf": "[mysqld]\n"}
    for name, text in {**files, "xtrabackup_checkpoints": checkpoints, "xtrabackup_info": info}.items():
        (work / name).write_text(text)
        if name.startswith("xtrabackup_"):
            (Path(options["--extra-lsndir"]) / name).write_text(text)
    if not start:
        (work / "xtrabackup_binlog_info").write_text(f"binlog.000002\t157\t{GTID}\n")
    names = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    subprocess.run(["mbstream", "-c", *names], cwd=work, check=True)


def _prepare(options: dict[str, str]) -> None:
    target = Path(options["--target-dir"])
    checkpoints = target / "xtrabackup_checkpoints"
    state = dict(line.split(" = ") for line in checkpoints.read_text().splitlines())
    if "--incremental-dir" in options:
        assert state["backup_type"] == "log-applied", "what was prepared for a server takes no increments"
        increment = Path(options["--incremental-dir"])
        said = dict(line.split(" = ") for line in (increment / "xtrabackup_checkpoints").read_text().splitlines())
        assert said["from_lsn"] == state["to_lsn"]
        state |= {name: said[name] for name in ("to_lsn", "last_lsn")}
        (target / "ibdata1").write_text((increment / "ibdata1.delta").read_text())
    state["backup_type"] = "log-applied" if "--apply-log-only" in options else "full-prepared"
    checkpoints.write_text("".join(f"{name} = {value}\n" for name, value in state.items()))


if __name__ == "__main__":
    sys.exit(_main())
