"""What deploy/ names exists: commands, options, settings, files, images, services; and what it promises of them holds."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.main import get_command

from api.command.root import app
from api.settings import PREFIX, SETTINGS_FILE, Settings, load_settings
from tests.process.server import ROOT
from tests.services.postgres import programs

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if service["image"].startswith("tocsin:")}
# They end when they have done their work.
JOBS: Final = ("topics", "migrate")
PORTS: Final = {"serve": 8800, "api": 8800, "worker": 8801, "intake": 8802}
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
CONTAINERFILE: Final = (DEPLOY / "image" / "Containerfile").read_text()
VERSION: Final[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def accepted(arguments: list[str]) -> None:
    """The command line is one that `tocsin` takes; raises what it would say."""
    group = get_command(app)
    command = group.commands[arguments[0]]  # type: ignore[attr-defined]  # a group, as the application has several commands
    command.make_context(arguments[0], arguments[1:])


def is_setting(name: str) -> bool:
    return name == SETTINGS_FILE or name.removeprefix(PREFIX).lower() in Settings.model_fields


# -- compose -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_compose_gives_our_image_commands_and_settings_that_there_are(name: str) -> None:
    service = OURS[name]
    accepted([str(word) for word in service["command"]])
    assert all(is_setting(key) for key in service["environment"] if key.startswith(PREFIX))
    if name not in JOBS:
        port = str(PORTS[service["command"][0]])
        assert service["command"][-2:] == ["--port", port]
        assert service["environment"].get("HEALTH_PORT", "8800") == port


@pytest.mark.parametrize("name", OURS)
def test_compose_runs_our_image_with_nothing_to_write_but_its_data(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert not service.get("cap_add")
    assert service["image"] == f"tocsin:{VERSION}"
    assert service["volumes"] == ["data:/data"]
    assert "ports" not in service, "only the proxy is reached from outside"


@pytest.mark.parametrize("name", SERVICES)
def test_compose_bounds_each_service_and_knows_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["cpus"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == ("no" if name in JOBS else "unless-stopped")
    assert name in JOBS or name in OURS or service["healthcheck"]["test"]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]), "an image by a tag that says its version"


@pytest.mark.parametrize("name", SERVICES)
def test_compose_names_only_what_it_declares(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    for secret in service.get("secrets", []):
        assert COMPOSE["secrets"][secret]["file"] == f"./compose/secrets/{secret}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DEPLOY / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    for other, need in service.get("depends_on", {}).items():
        assert need["condition"] == ("service_completed_successfully" if other in JOBS else "service_healthy")
        assert other in SERVICES
    for word in service["environment"].values() if "environment" in service else ():
        if str(word).startswith("/run/secrets/"):
            assert Path(str(word)).name in service["secrets"]


def test_the_owner_of_the_tables_is_told_to_the_migration_alone() -> None:
    for name, service in OURS.items():
        assert ("migrate.toml" in service["secrets"]) == (name == "migrate")


def test_prometheus_and_the_proxy_ask_the_services_where_they_listen() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped for config in job["static_configs"] for target in config["targets"]}
    running = {f"{name}:{PORTS[service['command'][0]]}" for name, service in OURS.items() if name not in JOBS}
    assert targets == running
    proxied = re.search(r"reverse_proxy (.+) \{", (DEPLOY / "compose" / "Caddyfile").read_text())
    assert proxied is not None
    assert set(proxied[1].split()) == {address for address in running if address.endswith(":8800")}


def test_grafana_is_given_the_dashboard_where_it_looks_for_it() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "tocsin.yml").read_text())["providers"][0]
    assert f"./grafana/dashboard.json:{provider['options']['path']}/tocsin.json:ro" in SERVICES["grafana"]["volumes"]
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


def prepared(folder: Path) -> Path:
    """The secrets, made in a copy of the folder."""
    shutil.copytree(DEPLOY / "compose", folder / "compose", ignore=shutil.ignore_patterns("secrets"))
    subprocess.run(["sh", str(folder / "compose" / "prepare.sh")], check=True, stdout=subprocess.DEVNULL)
    return folder / "compose" / "secrets"


def test_the_secrets_are_made_once_and_only_their_owner_reaches_them(tmp_path: Path) -> None:
    secrets = prepared(tmp_path)
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert before.keys() == COMPOSE["secrets"].keys()
    assert secrets.stat().st_mode & 0o777 == 0o700
    subprocess.run(["sh", str(secrets.parent / "prepare.sh")], check=True, stdout=subprocess.DEVNULL)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    settings = load_settings({SETTINGS_FILE: str(secrets / "migrate.toml")})
    assert settings.database_owner is not None
    assert "tocsin_owner" in settings.database_owner.get_secret_value()
    assert load_settings({SETTINGS_FILE: str(secrets / "tocsin.toml")}).database_owner is None


@pytest.mark.process
@pytest.mark.skipif(programs() is None and not os.environ.get("CI"), reason="PostgreSQL is not installed")
def test_the_roles_that_compose_makes_are_enough(tmp_path: Path) -> None:
    from tests.process.server import run
    from tests.services.postgres import running

    secrets = prepared(tmp_path)
    script = (DEPLOY / "compose" / "roles.sh").read_text()
    statements = script.split("<<'SQL'\n")[1].removesuffix("SQL\n")
    with running() as server:
        filled = re.sub(r":'(\w+)'", lambda found: f"'{(secrets / (found[1] + '.password')).read_text().strip()}'", statements)
        with server.superuser() as connection:
            for statement in filled.split(";\n"):
                if statement.strip():
                    connection.execute(statement.encode())
        settings = {
            "TOCSIN_DATABASE": server.address("tocsin", user="tocsin"), "TOCSIN_MASTER_KEY_FILE": str(secrets / "master.key"),
            "TOCSIN_DATA": str(tmp_path / "data"),
        }
        said = run("migrate", settings={**settings, "TOCSIN_DATABASE_OWNER": server.address("tocsin", user="tocsin_owner")})
        assert "is new" in said
        assert run("token", "create", "--role", "admin", settings=settings)


# -- image -------------------------------------------------------------------------------------------------------------


def test_the_image_stands_on_pinned_ground_and_runs_as_nobody_in_particular() -> None:
    assert set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)) == {"python:3.12.11-slim-bookworm"}
    assert re.findall(r"^USER (.+)$", CONTAINERFILE, re.MULTILINE) == ["10001"]
    assert "--require-hashes" in CONTAINERFILE
    assert f'org.opencontainers.image.version="{VERSION}"' in CONTAINERFILE
    accepted(["serve", "--host", "0.0.0.0", "--port", "8800"])
    assert 'ENTRYPOINT ["tocsin"]' in CONTAINERFILE


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".containerignore").read_text()
    assert (DEPLOY / "image" / "Containerfile.dockerignore").read_text() == ignored, "one is read by docker, the other by podman"
    let_through = {line.removeprefix("!") for line in ignored.splitlines() if line.startswith("!")}
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE) for source in line.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= copied


def test_the_wheel_holds_every_file_of_the_rooms(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    packages = ("engine", "projections", "monitors", "api", "schemas")
    listed = subprocess.run(["git", "ls-files", *packages], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    assert set(listed.stdout.splitlines()) <= set(zipfile.ZipFile(wheel).namelist())


# -- systemd -----------------------------------------------------------------------------------------------------------


def unit(path: Path) -> Iterator[tuple[str, str, str]]:
    """(section, key, value) of each line."""
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield section, key, value


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_what_there_is_with_as_few_rights_as_it_needs(path: Path) -> None:
    lines = list(unit(path))
    found = {key: value for section, key, value in lines if section == "Service"}
    arguments = shlex.split(found["ExecStart"].replace("%i", "8811"))
    assert arguments[0] == "/opt/tocsin/bin/tocsin"
    accepted(arguments[1:])
    for _, key, value in lines:
        if key == "Environment" and value.startswith(PREFIX):
            assert is_setting(value.split("=")[0])
    for key, value in {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "CapabilityBoundingSet": "", "UMask": "0077",
        "SystemCallFilter": "@system-service", "User": "tocsin",
    }.items():
        assert found[key] == value, key
    assert found["Type"] == ("oneshot" if path.stem == "tocsin-migrate" else "notify")


def test_the_settings_of_the_units_are_settings(tmp_path: Path) -> None:
    example = (DEPLOY / "systemd" / "tocsin.toml").read_text()
    load_settings({SETTINGS_FILE: str(DEPLOY / "systemd" / "tocsin.toml")})
    everything = tmp_path / "tocsin.toml"
    everything.write_text(re.sub(r"^# (\w+ = )", r"\1", example, flags=re.MULTILINE))
    assert load_settings({SETTINGS_FILE: str(everything)}).kafka is not None


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    places = [path for path in (DEPLOY / "systemd").iterdir() if path.suffix in (".service", ".socket", ".target")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, places)], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{DEPLOY / 'systemd'}:"},
    )
    # It looks at the machine's other units too; a program that is not installed here is no fault of the unit.
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "tocsin" in line and "is not executable" not in line]
    assert complaints == []
