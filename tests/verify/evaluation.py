"""What terms mean, computed with numbers: the yardstick for normal forms and small proofs."""

from __future__ import annotations

from collections.abc import Mapping

from zellige.verify.terms import Bool, Div, Int, Ite, Var


def number(t: Int, env: Mapping[str, int]) -> int:
    """The value of a term without applications."""
    total = 0
    for monomial, c in t.terms:
        for atom in monomial:
            match atom:
                case Var():
                    c *= env[atom.name]
                case Div():
                    c *= number(atom.numerator, env) // number(atom.denominator, env)
                case Ite():
                    c *= number(atom.then if truth(atom.condition, env) else atom.orelse, env)
                case _:
                    raise TypeError(atom)
        total += c
    return total


def truth(b: Bool, env: Mapping[str, int]) -> bool:
    """The value of a truth value without applications."""
    match b.kind:
        case "true" | "false":
            return b.kind == "true"
        case "ge":
            return number(b.term, env) >= 0
        case "eq":
            return number(b.term, env) == 0
        case "not":
            return not truth(b.args[0], env)
        case "and":
            return all(truth(a, env) for a in b.args)
        case "or":
            return any(truth(a, env) for a in b.args)
    raise TypeError(b)
