import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_fault_of_the_readme_has_its_test():
    section = (ROOT / "README.md").read_text().split("## Faults\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`(test_\w+)`", row.split("|")[3]) for row in rows]
    there = {
        node.name
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(rows) >= 25
    assert all(named)
    assert {name for names in named for name in names} - there == set()
