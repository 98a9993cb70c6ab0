"""Nothing that the verifier accepts trips the interpreter, and the CPU backend computes what the interpreter does."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from tests.fuzz import backends, campaign, kernels, mutation
from tests.fuzz.campaign import Verdict
from zellige.diagnostics.errors import ZelligeError

KERNELS = 500
COMPARED = 25


@pytest.mark.slow
def test_no_accepted_kernel_trips(fuzz_seed: int) -> None:
    counts: Counter[Verdict] = Counter()
    for outcome in campaign.campaign(KERNELS, fuzz_seed, launches_each=30, judge_refusals=False):
        counts[outcome.verdict] += 1
        assert outcome.verdict is not Verdict.UNSOUND, (
            f"python -m tests.fuzz.campaign --count 1 --seed {outcome.drawn.seed}\n{outcome.drawn.source}{outcome.why}"
        )
    print(f"\nseed {fuzz_seed}: " + ", ".join(f"{n} {v.value}" for v, n in counts.items()))
    assert counts[Verdict.ACCEPTED] > KERNELS // 4, "so few kernels are accepted that this says nothing"
    assert counts[Verdict.REFUSED] > KERNELS // 8, "so few kernels are refused that this says nothing"
    assert counts[Verdict.NOT_IN_THE_LANGUAGE] < KERNELS // 20


def test_accepted_kernels_give_the_same_on_the_cpu(fuzz_seed: int) -> None:
    compared = 0
    for number in range(fuzz_seed, fuzz_seed + 10 * COMPARED):
        drawn = kernels.draw(number)
        try:
            function = drawn.lower()
        except (ZelligeError, SyntaxError):
            continue
        if not campaign.by_verifier(function)[0]:
            continue
        for given, order in campaign.launches(function, number, 4):
            difference = backends.disagreement(function, given, order)
            assert difference is None, f"seed {number}\n{drawn.source}{difference}"
        compared += 1
        if compared == COMPARED:
            return
    raise AssertionError(f"only {compared} kernels were accepted")


def test_mutants_of_a_library_kernel_are_refused_or_harmless(fuzz_seed: int) -> None:
    functions = list(mutation.library())
    function = functions[fuzz_seed % len(functions)]
    fates: Counter[bool] = Counter()
    for mutant in islice(mutation.mutants(function), 40):
        proved, _ = campaign.by_verifier(mutant.function)
        fates[proved] += 1
        if proved:
            tried = mutation.trial(mutant.function, fuzz_seed, 25)
            assert tried.trip is None, f"seed {fuzz_seed}: accepted: {mutant.change}\n{tried.trip}"
            assert tried.launches >= mutation.LAUNCHED, f"seed {fuzz_seed}: not launched: {mutant.change}"
    assert fates[False] > 0, f"not one mutant of {function.name} is refused"
