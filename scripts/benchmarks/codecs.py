"""Encryption and codecs: time and size."""

from __future__ import annotations

from pyrage import x25519

from benchmarks.bench import Bench
from benchmarks.case import Case, Times
from benchmarks.mariadb import back_up, mariadb
from benchmarks.mariadb_restore import restore

VARIANTS = {
    "zstd 1": ("zstd", 1, False),
    "zstd 1, age": ("zstd", 1, True),
    "zstd 3": ("zstd", 3, False),
    "zstd 9": ("zstd", 9, False),
    "gzip 6": ("gzip", 6, False),
    "gzip 6, age": ("gzip", 6, True),
}


def codecs(bench: Bench) -> None:
    """Backup and restore with each codec. Every artifact is compressed, so compare with the pipeline to /dev/null."""
    server = mariadb(bench, "rows", 1500)
    key = x25519.Identity.generate()
    identities = bench.place / "age.key"
    identities.touch(mode=0o600)
    identities.write_text(f"{key}\n")
    for _ in bench.rounds():
        for name, (codec, level, age) in VARIANTS.items():
            settings = {"ARTIFACT__CODEC": codec, "ARTIFACT__LEVEL": str(level)}
            if age:
                settings |= {
                    "ENCRYPTION__RECIPIENTS": f'["{key.to_public()}"]',
                    "ENCRYPTION__IDENTITY_FILES": f'["{identities}"]',
                }
            with bench.site.configured(**settings):
                view = back_up(bench, server, f"backup, {name}")
                restore(bench, view["id"], f"restore to ACTIVE, {name}", f"restore, {name}")


CASES = (
    Case(
        "codecs",
        "Encryption and codecs",
        "rows, 1.5 GB",
        codecs,
        (
            Times("backup: time with encryption, times that without", None, "backup, zstd 1, age", "backup, zstd 1"),
            Times("backup: zstd 1, times faster than gzip 6", None, "backup, gzip 6", "backup, zstd 1"),
            Times("stored: zstd 1, times smaller than gzip 6", None, "backup, gzip 6", "backup, zstd 1", "stored"),
            Times("stored: zstd 9, times smaller than zstd 1", None, "backup, zstd 1", "backup, zstd 9", "stored"),
        ),
        rounds=1,
    ),
)
