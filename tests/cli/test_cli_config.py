"""``strongroom config``: what holds and where it comes from; and mistakes, with what was probably meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRONGROOM_SERVICE__PORT", "8790")
    file = tmp_path / "c.toml"
    file.write_text('[storage]\ndriver = "s3"\nbucket = "b"\nsecret_access_key = "hush"\n[service]\nlog_level = "debug"\n')
    return file


def test_every_option_is_shown_with_its_source_and_no_secret(run: Run, config: Path) -> None:
    shown = run("config", "show", "--config", str(config), "-f", "json")
    assert shown.exit_code == 0, shown.stderr
    options = {row["option"]: (row["value"], row["source"]) for row in json.loads(shown.stdout)}
    assert options["service.port"] == ("8790", "environment STRONGROOM_SERVICE__PORT")
    assert options["storage.driver"] == ("s3", str(config))
    assert options["storage.secret_access_key"] == ("(set, not shown)", str(config))
    assert options["service.host"] == ("127.0.0.1", "default")
    assert "hush" not in shown.output
    changed = run("config", "show", "--config", str(config), "--changed", "-f", "value").stdout.splitlines()
    assert len(changed) == 5


def test_a_valid_file_is_accepted(run: Run, config: Path) -> None:
    good = run("config", "check", str(config))
    assert (good.exit_code, good.stderr) == (0, f"{config} is valid: 4 options.\n")


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ('[storage]\nbuket = "b"\n', "there is no option storage.buket", "Did you mean storage.bucket?"),
        ("[servise]\nport = 1\n", "there is no section or option servise", "Did you mean service?"),
        ("[flavors.x]\nram = 512\nvcpu = 1\n", "there is no option flavors.x.vcpu", "Did you mean flavors.x.vcpus?"),
        ('[service]\nport = "many"\n', "service.port: input should be a valid integer", "docs/configuration.md"),
        ('[storage]\ndriver = "s4"\n', "storage.driver: input should be 'directory', 'swift'", "docs/configuration.md"),
        (
            '[policies.gold]\nfull = "often"\nkeep_last = 1\n',
            "policies.gold: 'often' is not a schedule",
            'Write words such as "daily 02:00"',
        ),
        ("[policies.gold]\nkeep_lst = 1\n", "there is no option policies.gold.keep_lst", "Did you mean policies.gold.keep_last?"),
        ("[service\n", "cannot be read as TOML", "docs/configuration.md"),
    ],
)
def test_unknown_options_are_reported_with_suggestions(run: Run, tmp_path: Path, text: str, said: str, remedy: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    for words in (["config", "check", str(file)], ["config", "show", "--config", str(file)], ["check", "--config", str(file)]):
        refused = run(*words)
        assert refused.exit_code == 2, refused.stderr
        assert str(file) in refused.stderr and said in refused.stderr and remedy in refused.stderr
    assert "pydantic" not in refused.stderr


def test_error_in_the_environment_names_the_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_STORAGE__RETRIES", "hush")
    refused = run("config", "show")
    assert refused.exit_code == 2
    assert "STRONGROOM_STORAGE__RETRIES: storage.retries: input should be a valid integer" in refused.stderr
    assert "hush" not in refused.stderr
