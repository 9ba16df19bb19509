"""Write the table of the zoo of networks into docs/alignment.md and docs/alignment_ch.md."""

from pathlib import Path

from common.files import write_atomically
from common.marked_text import replaced
from common.printable import print_safely

DOCS = Path(__file__).parents[2] / "docs"
MARKS = ("<!-- results: python -m alignment zoo --write_table -->", "<!-- end of results -->")
# {page: (head of the table, words of a verdict, text for no difference)}
PAGES = {
    "alignment.md": (("Network", "Verdict", "Differences", "Seconds"), "{verdict}, {num} of {all} runs", "none"),
    "alignment_ch.md": (("网络", "结论", "差异", "秒"), "{verdict}，{num} / {all} 次运行", "无"),
}


def table(results: dict[str, dict[str, dict]], page: str) -> list[str]:
    """The lines of a table in Markdown: one row for each network, its commonest verdict first.

    Args:
        results: {network: {run: result}}, the file of `python -m alignment zoo`.
        page: key of PAGES.
    """
    head, words, nothing = PAGES[page]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, runs in results.items():
        found = list(runs.values())
        verdicts = [run["verdict"] for run in found]
        ordered = sorted(set(verdicts), key=lambda verdict: -verdicts.count(verdict))
        texts = [words.format(verdict=one, num=verdicts.count(one), all=len(found)) for one in ordered]
        differences = list(dict.fromkeys(text for run in found for text in run["differences"]))
        cells = ["<br>".join(texts), "<br>".join(differences) or nothing, str(min(run["seconds"] for run in found))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def write_tables(results: dict[str, dict[str, dict]]) -> None:
    """Replace the text between the marks of both pages by their tables.

    Raises:
        DataError: a page has not each mark once.
    """
    for page in PAGES:
        path = DOCS / page
        text = path.read_text(encoding="utf-8")
        write_atomically(path, replaced(text, MARKS, "\n".join(table(results, page)), page))
        print_safely(f"wrote {path}")
