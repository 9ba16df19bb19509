"""The pages on serving and the README: every command and example is run against a service, or parsed by its program."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.loader import parse
from configs.schema import ExportConfig
from deploy.serving.__main__ import create_parser
from deploy.serving.errors import ServingError
from deploy.serving.limits import Limits
from tests.deploy.serving.running_service import running_service
from tests.readme_commands import ROOT, commands
from tests.source import files, text_of

pytestmark = pytest.mark.deploy
PAGE = text_of("docs/serving.md")
ADDRESS = "127.0.0.1:8000"
COMMANDS = [*commands("docs/serving.md"), *(line for line in commands("README.md") if ADDRESS in line)]
CLIENTS = [line for line in dict.fromkeys(COMMANDS) if ADDRESS in line]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(exported_onnx, source, tmp_path_factory) -> Path:
    """What the commands name: pictures, and an exported folder."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "new_pictures").mkdir()
    for place, name in enumerate(("photo.jpg", "other.png", "new_pictures/1.jpg", "new_pictures/2.png")):
        source.images[place % 4].save(folder / name)
    model = folder / "output" / "own" / "for_triton" / "triton" / "peleenet"
    model.mkdir(parents=True)
    shutil.copy(exported_onnx / "card.yaml", model)
    return folder


@pytest.fixture(scope="module")
def service(exported_onnx):
    for package in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(package)
    with running_service(exported_onnx, "--engine", "onnxruntime", "--threads", "1") as service:
        yield service


def run_here(words: list[str], folder: Path) -> str:
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("command", CLIENTS)
def test_a_command_to_a_running_service(command, folder, service):
    words = shlex.split(command.replace(ADDRESS, f"127.0.0.1:{service.port}"))
    if words[0] == "curl":
        if not shutil.which("curl"):
            pytest.skip("needs curl")
        words[1:1] = ["--silent", "--show-error", "--fail"]
    else:
        words[0] = sys.executable
    if "triton_client" in command:
        pytest.importorskip("tritonclient.http")
    answer = run_here(words, folder)
    assert answer if "/v2/health" in command else re.search(r'"(label_names|class_names)": ?\[', answer)
    if "top_k=2" in command:
        assert answer.count('"class_ids":[') == 2 and re.search(r'"class_ids":\[\d,\d\]', answer)


@pytest.mark.parametrize("example", blocks("python"), ids=["urllib", "tritonclient"])
def test_an_example_in_python(example, folder, service):
    if "tritonclient" in example:
        pytest.importorskip("tritonclient.http")
    example = example.replace(ADDRESS, f"127.0.0.1:{service.port}")
    assert run_here([sys.executable, "-c", example], folder).strip()


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
def test_the_example_in_javascript(folder, service):
    [example] = blocks("javascript")
    (folder / "example.mjs").write_text(example.replace(ADDRESS, f"127.0.0.1:{service.port}"))
    name, score = run_here([shutil.which("node"), "example.mjs"], folder).rsplit(maxsplit=1)
    assert name and 0 < float(score) < 1


def test_the_other_commands_are_parsed_by_their_programs():
    others = [line for line in COMMANDS if line not in CLIENTS and not line.startswith("python -m pip ")]
    for line in others:
        _, *words = shlex.split(line)
        if words[0] == "export_model.py":
            parse(ExportConfig, words[1:], prog="export_model.py")
        else:
            assert words[:2] == ["-m", "deploy.serving"]
            create_parser().parse_args(words[2:])
    assert len(others) >= 4
    for line in COMMANDS:
        if line.startswith("python -m pip "):
            assert all((ROOT / word).exists() for word in line.split() if word.endswith(".txt"))


@pytest.mark.parametrize("page", ["docs/serving.md", "docs/serving_ch.md"])
def test_the_table_of_flags_is_that_of_the_program(page):
    """Every flag, and every default that is a number or a name."""
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|", text_of(page), re.MULTILINE)
    told = {}
    for names, defaults in rows:
        flags, values = re.findall(r"`--(\w+)`", names), defaults.split(", ")
        told |= dict(zip(flags, values * (len(flags) if len(values) == 1 else 1), strict=True))
    parser = create_parser()
    declared = {action.dest: action.default for action in parser._actions if action.dest not in ("help", "exported")}
    assert told.keys() == declared.keys()
    for name, default in declared.items():
        if default is not None:
            assert told[name] == f"{default:g}" if isinstance(default, float) else told[name] == str(default), name


@pytest.mark.parametrize("page", ["docs/serving.md", "docs/serving_ch.md"])
def test_the_table_of_errors_names_all_kinds(page):
    rows = re.findall(r"^\| ([\d, ]+) \| (`.*?`) \|", text_of(page), re.MULTILINE)
    told = {kind for _, kinds in rows for kind in re.findall(r"`(\w+)`", kinds)}
    source = "\n".join(text_of(path) for path in files("*.py") if path.startswith("deploy/serving/"))
    calls = re.findall(r'ServingError\(\s*(?:HTTPStatus\.\w+|\d+), "(\w+)"', source)
    assert set(calls) | {"not_found", "method_not_allowed"} == told
    error = ServingError(413, "too_large", "more than 32 images in one request; send several requests")
    [example] = [block for block in blocks("json") if '"error"' in block]
    assert error.body("5f0c...").keys() == set(re.findall(r'"(\w+)":', example))
    limits = Limits()
    text = text_of(page)
    for number in (f"{limits.max_connections}", f"{limits.head_seconds:g} ", f"{limits.body_seconds:g} "):
        assert number in text
    [size] = re.findall(r"client_max_body_size (\d+)m", text)
    assert int(size) << 20 == limits.max_body_bytes
