"""Every command and every Python block of the pages for own pictures runs, in their order, on a few drawn pictures."""

import re

from tests.forked_python import run_python
from tests.readme_commands import ROOT, commands_to_run, create_checkout, run_in_order
from tests.scripts.conftest import ENVIRONMENT

PAGES = ("README.md", "docs/own_pictures.md", "docs/finetuning.md")


def test_the_commands_run_in_their_order(tmp_path):
    folder = create_checkout(tmp_path)
    lines = [line for page in PAGES for line in commands_to_run(page, own_pictures=True)]
    lines = list(dict.fromkeys(lines))  # a command that stands on two pages once
    assert len(lines) >= 11
    run_in_order(folder, lines)
    for page in PAGES:
        for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            done = run_python(["-c", code], cwd=folder, env=ENVIRONMENT)
            assert done.returncode == 0 and done.stdout, f"{code}\n{done.stdout}\n{done.stderr}"
    report = (folder / "output" / "own" / "report" / "report.html").read_text(encoding="utf-8")
    assert "brick" in report
    assert list((folder / "output" / "annotated").iterdir()) and list((folder / "output" / "maps").iterdir())
    assert (folder / "output" / "sorted").is_dir()
