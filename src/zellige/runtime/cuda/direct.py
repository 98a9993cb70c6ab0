"""A call of known layouts as straight-line code: its checks, its outputs, the driver's call, and what is written afterwards.

Loops over a kernel's parameters and a function for each step would cost the host as much again as the driver does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from zellige.runtime.admission import check_contents
from zellige.runtime.binding import LEFT_OUT, Binding
from zellige.runtime.cuda.driver import checked
from zellige.runtime.cuda.launch import Launch, cleared
from zellige.runtime.memory import CLOCK
from zellige.runtime.plan import Plan, check_scalar

if TYPE_CHECKING:
    from zellige.runtime.cuda.executor import CudaExecutor


def written_out(launch: Launch | None, executor: CudaExecutor, plan: Plan) -> Callable[..., Any]:
    """A function that launches on an executor's stream: it takes all arrays in the order of the signature, then all scalars.

    Outputs that the plan's calls leave out it makes (unless they were made for it), and returns: one, or a tuple.
    ``launch``: what runs, with any arguments; None if there is nothing to run: checks, what is cleared and effects are left. From the
    checks of contents to what counts as written it is the device's turn (``order.lock``); the driver copies arguments when it is called,
    so that they are written in place. Arrays that begin elsewhere than the code needs go to ``executor.launch_unaligned``.
    The function raises what ``Binder.bound``, ``check_contents`` and ``Plan.check_preconditions`` would."""
    function, order = plan.instance.function, executor.order
    arrays = [f"a{i}" for i in range(len(function.arrays))]
    scalars = {scalar.name: f"s{i}" for i, scalar in enumerate(function.scalars)}
    held, values = f"[{', '.join(arrays)}]", f"{{{', '.join(f'{name!r}: {s}' for name, s in scalars.items())}}}"
    names: dict[str, Any] = {
        "plan": plan, "check_contents": check_contents, "check_scalar": check_scalar, "checked": checked, "next": next, "CLOCK": CLOCK,
        "taken": order.lock.acquire, "given": order.lock.release, "order": order, "before": order.before, "after": order.after,
        "launch_unaligned": executor.launch_unaligned, "cleared": cleared, "Binding": Binding, "keeps": launch, "private": executor.private,
        "LEFT_OUT": LEFT_OUT,
    }  # fmt: skip
    lines: list[str] = []
    for scalar, name in zip(function.scalars, scalars.values(), strict=True):
        names[f"{name}_type"] = scalar
        lines.append(f"{name} = check_scalar(plan.kernel, {name}_type, {name}, plan.dims)")
    for i in sorted({i for pair in plan.pairs for i in pair}):
        lines.append(f"low{i}, high{i} = a{i}.span")
    for i, j in plan.pairs:
        lines.append(f"if low{i} < high{j} and low{j} < high{i}: plan.check_overlap({held})")
    for i, shape, dtype in plan.outputs:
        names[f"new{i}"] = executor.maker(shape, dtype)
        lines.append(f"if a{i} is LEFT_OUT: a{i} = new{i}()")
    lines += ["taken()", "try:"]
    turn = [
        f"if a{i}.memory.seen_by_others: a{i} = private(a{i})"  # nobody gets it while it is our turn
        for i in {i: None for i, _ in plan.needs if not plan.exclusive[i]}
    ]
    if plan.needs:
        turn.append(f"check_contents(plan, {held})")
    else:
        turn += [f"if a{i}.memory.unwritten is not None: check_contents(plan, {held})" for i in plan.reads]
    if plan.has_preconditions:
        turn.append(f"plan.check_preconditions({values})")
    if launch is not None or (plan.fills and executor.device is not None):
        turn += _run(launch, executor, plan, scalars, held, values, names)
    new = {i: f"a{i}" for i, _, _ in plan.outputs}
    for i in plan.writes:
        if i in new:  # all of its memory, of which nobody has learnt anything
            turn.append(f"a{i}.memory.unwritten = None")
            continue
        turn += [f"memory = a{i}.memory", "memory.version = next(CLOCK)"]
        turn.append(f"if memory.unwritten is not None: memory.mark_written(a{i})")
    for number, (i, fact) in enumerate(plan.establishes):
        names[f"fact{number}"] = fact
        turn.append(f"a{i}.learn(fact{number})")
    lines += [*_indented([*turn, "pass"]), "finally: given()", f"return {', '.join(new.values()) or None}"]
    exec("\n".join([f"def launch({', '.join((*arrays, *scalars.values()))}):", *_indented(lines)]), names)
    made: Callable[..., Any] = names["launch"]
    return made


def _run(
    launch: Launch | None,
    executor: CudaExecutor,
    plan: Plan,
    scalars: dict[str, str],
    held: str,
    values: str,
    names: dict[str, Any],
) -> Iterator[str]:
    """What is cleared, the launch's arguments and the driver's call, in order with the work of other streams."""
    names |= {"queue": executor.queue, "stream": executor.stream}
    places, promises = list[str](), dict[int, list[str]]()
    known = () if launch is None else zip(launch.kernel.compiled.parameters, launch.arguments, strict=False)
    for number, (parameter, place) in enumerate(known):
        names[f"place{number}"] = place
        if parameter.kind == "array":
            i = plan.names.index(parameter.name)
            yield f"address{i} = a{i}.address"
            places.append(f"place{number}.value = address{i}")
            promises.setdefault(parameter.multiple, []).append(f"address{i}")
        elif parameter.kind == "scalar":
            places.append(f"place{number}.value = {scalars[parameter.name]}")
    for multiple, addresses in promises.items():  # multiples are powers of two
        if multiple > 1:
            yield f"if ({' | '.join(addresses)}) & {multiple - 1}: return launch_unaligned(Binding(plan, {held}, {values}))"
    uses = ", ".join(f"(a{i}.storage.memory.users, {exclusive})" for i, exclusive in enumerate(plan.exclusive))
    yield "uses = None"
    yield "if not order.alone:"
    yield from _indented([f"uses = ({uses},)", "before(queue, uses)"])
    yield "try:"
    if plan.fills:
        if executor.device is not None:
            names["use"] = executor.device.use
            yield "    use()"
        yield from _indented([f"for clear in cleared(plan, {held}): clear(stream)"])
    if launch is not None:
        call, *arguments = launch.call.foreign(executor.stream)
        names |= {"call": call, **{f"argument{i}": argument for i, argument in enumerate(arguments)}}
        yield from _indented([*places, f"code = call({', '.join(f'argument{i}' for i in range(len(arguments)))})"])
        yield from _indented(["if code: checked(code, 'a launch')"])
    yield "finally:"  # some of it may have been given
    yield from _indented(["if uses is not None: after(queue, uses)"])


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
