"""The `tocsin` command: one clear line for what cannot be done, and nothing but the answer on standard output."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import api
from api.command.root import main
from api.house import open_house
from tests.stores import settings_at

Run = Callable[[Sequence[str | Path]], tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Arguments to (exit code, standard output, standard error)."""
    monkeypatch.setattr("api.command.serving.configure_logs", lambda: None)  # it would outlive what is captured here

    def of(arguments: Sequence[str | Path]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tocsin", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return of


def refused(answer: tuple[int, str, str], told: str) -> None:
    code, out, said = answer
    assert (code, out) == (1, "")
    assert said.startswith("tocsin: ")
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.files
def test_a_data_folder_that_cannot_be_made_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "data"):
        refused(run(["migrate", "--data", place]), str(place))


def test_a_mapping_that_cannot_be_used_is_one_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    add: list[str | Path] = ["source", "add", "checks", "--data", tmp_path / "data", "--mapping", file, "--adapter"]
    for content, told in ((b'key = "\xff"', "UTF-8"), (b'key = ["item.("]', "mapping.key[0]: expected a CEL expression")):
        file.write_bytes(content)
        refused(run([*add, "generic"]), told)
    refused(run([*add, "grafana"]), "only the adapter generic")


def test_an_unknown_adapter_is_told_the_known_ones(run: Run, tmp_path: Path) -> None:
    refused(run(["source", "add", "x", "--adapter", "zabix", "--data", tmp_path / "data"]), "alertmanager, prometheus, grafana")


def test_a_source_may_report_the_same_alerts_as_another(run: Run, tmp_path: Path) -> None:
    add: list[str | Path] = ["source", "add", "prom-api", "--adapter", "prometheus", "--data", tmp_path / "data", "--same-as"]
    code, _, said = run([*add, "nobody"])
    assert (code, "no source nobody" in said) == (1, True)
    code, out, _ = run([*add, "alertmanager"])
    assert (code, "prometheus.yml" in out) == (0, True)
    house = open_house(settings_at(tmp_path / "data"))
    assert house.intake.profile("prom-api").space == "alertmanager"
    house.close()


def test_a_token_stands_alone_on_standard_output_and_the_new_key_beside_it(run: Run, tmp_path: Path) -> None:
    _, out, said = run(["token", "create", "--role", "admin", "--data", tmp_path / "data"])
    assert out.startswith("tcs_")
    assert out.count("\n") == 1
    assert "Back this up" in said
    assert str(tmp_path / "data.key") in said


def test_a_store_that_a_command_made_still_gets_its_first_administrator(run: Run, tmp_path: Path) -> None:
    run(["token", "create", "--role", "admin", "--data", tmp_path / "data"])
    house = open_house(settings_at(tmp_path / "data"))
    assert house.first_admin is not None
    house.close()
    again = open_house(settings_at(tmp_path / "data"))
    assert again.first_admin is None
    again.close()


@pytest.mark.files
def test_a_warning_does_not_mix_with_json(run: Run, tmp_path: Path) -> None:
    arguments = ["queue", "--json", "--data", str(tmp_path / "data")]
    run(["migrate", "--data", tmp_path / "data"])
    run(arguments)
    (tmp_path / "data" / "views.db").write_bytes(b"no database" * 1_000)
    done = subprocess.run([sys.executable, "-m", "api.command", *arguments], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["items"] == []
    assert "rebuilt" in done.stderr


def test_days_are_shown_whole_in_a_narrow_terminal(run: Run, tmp_path: Path) -> None:
    run(["migrate", "--data", tmp_path / "data"])
    _, out, _ = run(["kpi", "--by", "day", "--from", "2026-03-02T00:00:00Z", "--to", "2026-03-03T00:00:00Z", "--data", tmp_path / "data"])
    assert "2026-03-02 " in out


def test_a_rulebook_that_tells_somebody_whom_nobody_added_is_told_so(run: Run, tmp_path: Path) -> None:
    file, data = Path(api.__file__).parent / "shipped_rules.toml", tmp_path / "data"
    check: list[str | Path] = ["rules", "check", file, "--data", data]
    assert "nobody has added" not in run(check)[1]  # there is no store that could know
    run(["recipient", "add", "lead", "--mail", "lead@example.org", "--data", data])
    assert "but nobody has added these recipients, so they are told nothing: on-call" in run(check)[1]
    run(["recipient", "add", "on-call", "--mail", "duty@example.org", "--data", data])
    assert "nobody has added" not in run(check)[1]
