"""What is shipped for a deployment fits the program: settings, commands, units, containers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

from fedmri.clients.process.home import SiteConfig
from fedmri.config import load
from fedmri.server.registry.home import ServerConfig
from fedmri.settings.file import read_settings
from fedmri.settings.keys import known_keys
from tests.conftest import program

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
PAGES = [ROOT / "README.md", ROOT / "docs/deploy.md", ROOT / "docs/privacy.md"]
INSTALLED = "/opt/fedmri/bin/fedmri"
COMMAND = re.compile(
    r"(?<![\w./-])(?:/opt/fedmri/bin/)?fedmri ((?:server|client|simulate|demo)\b.*)"
)
IN_CONTAINER = re.compile(r"docker compose .* run .*?\b(?:server|site) ((?:server|client) .*)")
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
}


def test_the_example_of_a_server_is_one() -> None:
    """Every key of it is a setting, and its address is that of the documentation."""
    config = read_settings(DEPLOY / "server.yaml", ServerConfig)
    assert config.address == "fl.example.org:9443"


def test_the_example_of_a_site_is_one() -> None:
    """Every key of it is a setting."""
    assert read_settings(DEPLOY / "site.yaml", SiteConfig).policy.max_clip_grad_norm == 1.0


@pytest.mark.parametrize(
    ("name", "kind"), [("server.yaml", ServerConfig), ("site.yaml", SiteConfig)]
)
def test_the_examples_show_every_setting_of_the_party_itself(name: str, kind: type[Any]) -> None:
    """A limit that is not in the example is one that nobody finds."""
    own = {key for key in known_keys(kind) if not key.startswith(("data", "check"))}
    assert own - set(keys_of(yaml.safe_load((DEPLOY / name).read_text()))) == set()


def keys_of(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested settings."""
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")


def test_the_example_of_a_plan_keeps_to_the_example_of_a_site() -> None:
    """Who copies both has a consortium that trains."""
    from fedmri.clients.consent.policy import violations

    policy = read_settings(DEPLOY / "site.yaml", SiteConfig).policy
    assert violations(policy, load([], DEPLOY / "plan.yaml").plan) == []


def shell_commands() -> Iterator[tuple[str, str]]:
    """Yield where a command of fedmri is shown, and its arguments."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)
        shown = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        shown += re.findall(r"`(fedmri [^`]+)`", text.replace("\n", " "))
        yield from ((page.name, line) for line in shown)
    for file in sorted(path for path in DEPLOY.rglob("*") if path.is_file()):
        lines = file.read_text(encoding="utf-8").splitlines()
        starts = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")]
        shown = re.findall(r"`(fedmri [^`]+)`", " ".join(lines).replace(" # ", " "))
        yield from ((file.name, line) for line in [*starts, *shown])


def commands() -> list[tuple[str, str]]:
    """Return every command line of fedmri that is shown, and where."""
    found = set()
    for place, line in shell_commands():
        match = IN_CONTAINER.search(line) or COMMAND.search(line)
        if match:
            found.add((place, match[1].partition(" #")[0].partition(" > ")[0].strip()))
    for name, service in compose()["services"].items():
        found.add((f"compose {name}", shlex.join(service["command"])))
    return sorted(found)


def compose() -> dict[str, Any]:
    """Return the compose file."""
    values: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return values


def parse(arguments: list[str]) -> click.Context:
    """Parse a command line as the program would; raise what click has against it."""
    command = program()
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        raise click.UsageError(f"no command {rest[0]}")
    return command.make_context("fedmri", rest)


def test_the_documentation_shows_the_whole_way() -> None:
    """Commands are found at all: those of a consortium's whole life are on the page."""
    shown = {" ".join(line.split()[:2]) for place, line in commands() if place == "deploy.md"}
    server = {"init", "start", "enroll", "run", "status", "watch", "stop", "list", "logs", "fetch"}
    client = {"init", "check", "join", "doctor", "start", "plans", "approve", "ledger"}
    wanted = {f"server {word}" for word in server | {"renew", "revoke"}}
    wanted |= {f"client {word}" for word in client}
    assert wanted - shown == set()


@pytest.mark.parametrize(("place", "line"), commands(), ids=lambda text: str(text)[:60])
def test_a_command_that_is_shown_can_be_typed(
    place: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exists, and so does every option; what has to be given is given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").touch()  # must be there to be checked
    arguments = shlex.split(re.sub(r"\bPLAN(\.yaml)?\b", "plan.yaml", line))
    is_named_only = len(arguments) <= 2 and not arguments[-1].startswith("-")
    try:
        parse(arguments)
    except click.MissingParameter:
        assert is_named_only, f"{place}: {line}"  # prose may name a command without its arguments


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_a_service_is_hardened_and_writes_to_one_folder(unit: Path) -> None:
    """It runs as its own user, which can become nobody else and write nothing else."""
    service = section(unit, "Service")
    assert {name: service[name] for name in HARDENED} == HARDENED
    folder = service["ReadWritePaths"]
    assert folder == f"/var/lib/{service['User']}"
    assert f"_DIR={folder}" in service["first environment"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_is_one_that_systemd_takes(unit: Path, tmp_path: Path) -> None:
    """``systemd-analyze verify`` says nothing about it, neither error nor warning."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    here = Path(sys.executable).with_name("fedmri")
    for other in UNITS:  # a timer needs its service beside it
        (tmp_path / other.name).write_text(other.read_text().replace(INSTALLED, str(here)))
    command = [program, "verify", "--man=no", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def section(unit: Path, name: str) -> dict[str, str]:
    """Return a section of a unit; of a key that is repeated, the last value."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd minds the case
    text = unit.read_text()
    parser.read_string(text)
    first = re.search(r"^Environment=(.*)$", text, re.M)
    return {**parser[name], "first environment": first[1] if first else ""}


@pytest.mark.parametrize("name", ["server", "site"])
def test_a_container_is_hardened(name: str) -> None:
    """It can write to its volume alone and gain no right; only the server is to be reached."""
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    mounted = service["volumes"]
    assert [mount for mount in mounted if not mount.endswith(":ro")] == [f"{name}:/var/lib/fedmri"]
    assert service.get("ports", []) == (["9443:9443"] if name == "server" else [])


def manifests(name: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a file for Kubernetes, by kind."""
    text = (DEPLOY / f"kubernetes/{name}.yaml").read_text()
    found = {one["kind"]: one for one in yaml.safe_load_all(text)}
    assert all({"apiVersion", "metadata", "spec"} <= one.keys() for one in found.values())
    return found


@pytest.mark.parametrize("name", ["server", "client"])
def test_a_pod_is_hardened_and_there_once(name: str) -> None:
    """It runs as the image's user, writes to its own folder, and no second one beside it."""
    objects = manifests(name)
    deployment = objects["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (
        10001,
        True,
    )
    secured = container["securityContext"]
    assert secured["readOnlyRootFilesystem"] is True
    assert secured["allowPrivilegeEscalation"] is False
    assert secured["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    writable = {key for key, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {"folder", "tmp"}
    (folder,) = (v["persistentVolumeClaim"] for v in pod["volumes"] if v["name"] == "folder")
    assert folder["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    party = "SERVER" if name == "server" else "CLIENT"
    assert container["env"] == [{"name": f"FEDMRI_{party}_DIR", "value": "/var/lib/fedmri"}]
    parse(container["args"])


def test_only_the_server_is_reached_in_a_cluster() -> None:
    """Its service leads to its port; the client takes no connection at all."""
    server, client = manifests("server"), manifests("client")
    template = server["Deployment"]["spec"]["template"]
    assert server["Service"]["spec"]["selector"] == template["metadata"]["labels"]
    (port,) = template["spec"]["containers"][0]["ports"]
    assert server["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert port["containerPort"] == 9443
    assert "Service" not in client
    policy = client["NetworkPolicy"]["spec"]
    assert policy["ingress"] == []
    assert policy["podSelector"] == client["Deployment"]["spec"]["selector"]


@pytest.mark.parametrize("script", sorted((DEPLOY / "slurm").iterdir()), ids=lambda path: path.name)
def test_a_script_for_slurm_is_sound(script: Path) -> None:
    """The shell parses it, and ShellCheck finds nothing where it is installed."""
    subprocess.run(["bash", "-n", script], check=True)
    if program := shutil.which("shellcheck"):
        subprocess.run([program, script], check=True)
    elif script.suffix == ".sh":
        pytest.skip("shellcheck is not installed")


def test_the_image_holds_every_room_and_runs_without_root() -> None:
    """A room that is not copied would be missing in the wheel that the image installs."""
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY ")}
    assert {"fedmri", "server", "clients", "simulation", "configs"} <= copied
    assert [line for line in lines if line.startswith("USER ")] == ["USER fedmri"]
    assert lines[-1] == 'ENTRYPOINT ["fedmri"]'


def test_the_links_of_the_pages_lead_somewhere() -> None:
    """A page on a deployment points at files that are there, and at headings that are."""
    for page in PAGES[1:]:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            path, _, heading = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not heading or heading in headings(file), target


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}
