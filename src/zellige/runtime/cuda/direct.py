"""A launch of known layouts as straight-line code: its checks, its addresses, the driver's call, and what is written afterwards.

Loops over a kernel's parameters and a function for each step would cost the host as much again as the driver does.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from zellige.runtime.admission import check_contents
from zellige.runtime.completion import LOCK
from zellige.runtime.cuda.driver import checked
from zellige.runtime.cuda.launch import Launch, cleared, misaligned
from zellige.runtime.memory import CLOCK
from zellige.runtime.plan import Plan, check_scalar


def written_out(launch: Launch | None, stream: Any, plan: Plan) -> Callable[..., None]:
    """A function that launches on one stream: it takes all arrays in the order of the signature, then all scalars.

    ``launch``: what runs, with any arguments; None if the grid is empty, of which only the checks and the effects are left. The driver
    copies arguments when it is called, so that they are written in place; launches of several threads go one by one.
    The function raises what ``Binder.bound``, ``check_contents`` and ``Plan.check_preconditions`` would, and ZelligeError ZL0515 if an
    address is not the multiple that the code relies on."""
    function = plan.instance.function
    names: dict[str, Any] = {
        "plan": plan, "check_contents": check_contents, "check_scalar": check_scalar, "checked": checked, "next": next, "CLOCK": CLOCK,
        "taken": LOCK.acquire, "given": LOCK.release, "stream": stream, "cleared": cleared, "keeps": launch,
    }  # fmt: skip
    arrays = [f"a{i}" for i in range(len(function.arrays))]
    scalars = {scalar.name: f"s{i}" for i, scalar in enumerate(function.scalars)}
    held = f"({', '.join(arrays)},)"
    lines: list[str] = []
    for scalar, name in zip(function.scalars, scalars.values(), strict=True):
        names[f"{name}_type"] = scalar
        lines.append(f"{name} = check_scalar(plan.kernel, {name}_type, {name}, plan.dims)")
    for i in sorted({i for pair in plan.pairs for i in pair}):
        lines.append(f"low{i}, high{i} = a{i}.span")
    for i, j in plan.pairs:
        lines.append(f"if low{i} < high{j} and low{j} < high{i}: plan.check_overlap({held})")
    if plan.needs:
        lines.append(f"check_contents(plan, {held})")
    else:
        lines += [f"if a{i}.memory.unwritten is not None: check_contents(plan, {held})" for i in plan.reads]
    if plan.has_preconditions:
        lines.append(f"plan.check_preconditions({{{', '.join(f'{n!r}: {s}' for n, s in scalars.items())}}})")
    if launch is not None:
        if plan.fills:
            lines.append(f"for clear in cleared(plan, {held}): clear(stream)")
        lines += _run(launch, stream, plan, scalars, held, names)
    lines += ["taken()", "try:"]
    for i in plan.writes:
        lines += [f"    memory = a{i}.memory", "    memory.version = next(CLOCK)"]
        lines.append(f"    if memory.unwritten is not None: memory.mark_written(a{i})")
    for number, (i, fact) in enumerate(plan.establishes):
        names[f"fact{number}"] = fact
        lines.append(f"    a{i}.learn(fact{number})")
    lines += ["    pass", "finally: given()"]
    body = "".join(f"    {line}\n" for line in lines)
    exec(f"def launch_{plan.kernel}({', '.join((*arrays, *scalars.values()))}):\n{body}", names)
    made: Callable[..., None] = names[f"launch_{plan.kernel}"]
    return made


def _run(
    launch: Launch, stream: Any, plan: Plan, scalars: dict[str, str], held: str, names: dict[str, Any]
) -> list[str]:
    """The launch's arguments and the driver's call."""
    compiled = launch.kernel.compiled
    lock = Lock()
    call, *arguments = launch.call.foreign(stream)
    names |= {"taken_by_one": lock.acquire, "given_back": lock.release, "call": call}
    names |= {f"argument{i}": argument for i, argument in enumerate(arguments)}
    lines, addresses, promised = ["taken_by_one()", "try:"], [], 1
    for number, (parameter, place) in enumerate(zip(compiled.parameters, launch.arguments, strict=False)):
        names[f"place{number}"] = place
        if parameter.kind == "array":
            i = plan.names.index(parameter.name)
            lines.append(f"    place{number}.value = address{i} = a{i}.address")
            addresses.append(f"address{i}")
            promised = max(promised, parameter.multiple)
        elif parameter.kind == "scalar":
            lines.append(f"    place{number}.value = {scalars[parameter.name]}")
    if promised > 1:  # multiples are powers of two: mostly all addresses keep all of them

        def check_multiples(held: Any) -> None:
            for parameter in compiled.parameters:
                if parameter.kind == "array":
                    address = held[plan.names.index(parameter.name)].address
                    if address % parameter.multiple:
                        raise misaligned(compiled.name, parameter.name, parameter.multiple, address)

        names["check_multiples"] = check_multiples
        lines.append(f"    if ({' | '.join(addresses)}) & {promised - 1}: check_multiples({held})")
    lines.append(f"    code = call({', '.join(f'argument{i}' for i in range(len(arguments)))})")
    return [*lines, "finally: given_back()", "if code: checked(code, 'a launch')"]
