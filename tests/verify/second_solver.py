"""A second solver, cvc5, answers the queries that z3 answered.

``python -m tests.verify.second_solver`` asks it every query of the library's and the examples' kernels, as ``zellige check
--emit-smt`` writes them; with ``--everything``, also about what the verifier's own rules decide without a solver. It exits 1
if an answer contradicts z3's. Where cvc5 gives up within its resource limit, nothing is concluded; how often is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import cvc5
from click.testing import CliRunner

from zellige.cli.check import check
from zellige.verify import races
from zellige.verify.verifier import _Run

ROOT = Path(__file__).parents[2]
PATHS = (ROOT / "src" / "zellige" / "kernels", ROOT / "examples")
LIMIT = 200_000
"""Steps of cvc5 for one query: not seconds, so that its answer is the same everywhere."""

Answers = Counter[tuple[str, str]]
"""How often z3 said the first and cvc5 the second: sat, unsat or unknown."""


def emitted(paths: Iterable[Path], *, everything: bool = False) -> list[str]:
    """The different queries that ``zellige check --emit-smt`` writes. AssertionError if a kernel is refused.

    ``everything``: the verifier's own rules decide nothing, so that all claims are asked."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as without:
        if everything:
            without.enter_context(patch.object(_Run, "_by_rule", lambda run, claim: False))
            without.enter_context(patch.object(_Run, "_shown", lambda run, way: False))
            without.enter_context(patch.object(races, "tiles_apart", lambda *given: False))
        done = CliRunner().invoke(check, [*map(str, paths), "--emit-smt", folder])
        assert done.exit_code == 0 or everything, done.output
        return sorted({path.read_text() for path in Path(folder).glob("*.smt2")})


def answer(query: str, limit: int = LIMIT) -> str:
    """What cvc5 says of an SMT-LIB query: sat, unsat or unknown."""
    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("rlimit-per", str(limit))
    solver.setLogic("ALL")
    parser = cvc5.InputParser(solver)
    unbiased = re.sub(r"\(set-info :status \w+\)", "", query)  # which cvc5 would check itself
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, unbiased, "query")
    said = ""
    while not (command := parser.nextCommand()).isNull():
        said += str(command.invoke(solver, parser.getSymbolManager()))
    (found,) = re.findall(r"^(sat|unsat|unknown)\b", said, re.MULTILINE)
    return str(found)


def status(query: str) -> str:
    """What z3 said of a query."""
    (found,) = re.findall(r"\(set-info :status (\w+)\)", query)
    return str(found)


def compared(queries: Iterable[str], limit: int = LIMIT) -> Iterator[tuple[str, str, str]]:
    """Each query with z3's and cvc5's answer."""
    for query in queries:
        yield query, status(query), answer(query, limit)


def contradict(first: str, second: str) -> bool:
    """Whether two answers cannot both be right."""
    return {first, second} == {"sat", "unsat"}


def main() -> int:
    """Asks all queries and prints how the answers compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--everything", action="store_true", help="also what rules decide without a solver")
    parser.add_argument("--limit", type=int, default=LIMIT, help="cvc5's resource limit for a query")
    options = parser.parse_args()
    answers: Answers = Counter()
    wrong = 0
    for query, first, second in compared(emitted(PATHS, everything=options.everything), options.limit):
        answers[first, second] += 1
        if contradict(first, second):
            wrong += 1
            print(f"z3 says {first}, cvc5 {second}:\n{query}")
    print(f"{sum(answers.values())} queries, cvc5 {cvc5.__version__}, limit {options.limit}")
    for (first, second), count in sorted(answers.items()):
        print(f"{count:6} z3 {first:8} cvc5 {second}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
