"""Switches of the verifier that no verdict shows, and why that is right.

Each reason goes with the beginning of the keys that it is about. Three kinds recur. *Assumes less*: the switch takes knowledge away,
so that more may be refused and nothing more is accepted; the kernels at hand do not need that piece, because another one
implies it or the solver finds it. *Asks more*: it adds a claim, or makes one stronger, that holds as well. *Same*: what is switched
cannot be otherwise, by the types, by ``ir.spec`` or by the language.
"""

from __future__ import annotations

LESS, MORE, SAME = "assumes less: ", "asks more: ", "the same: "

EQUIVALENT: dict[str, str] = {
    # bits
    "bits.combined: always `function is None`": LESS + "a function of its own each time loses that equal operands give equal results",
    "bits.combined.known: never `most ==": SAME + "intervals of 64-bit numbers are finite, and of negative ones nothing follows",
    "bits.combined.known: without or `most": SAME + "intervals of 64-bit numbers are finite, and of negative ones nothing follows",
    "bits.combined.known: without part of conjunction `terms.le(0, b)`":
        SAME + "also with a negative operand no result has more bits than the larger one, and the first condition stays",
    "bits.combined.known: lt for `terms.le(0,": LESS + "of an operand that is 0",
    "bits._of_xor: lt for `terms.le(0, y)`": LESS + "of an operand that is 0",
    "bits._invertible: without `terms.implies(": LESS + "one of the two directions",
    # positions
    "positions.reduced_at: without the 1 of `size - 1` (2)": LESS + "of which element the largest is",
    "positions._extreme.facts: without filter": SAME + "a grid of one program has the id 0, which is no variable to replace",
    "positions._extreme.facts: without condition": SAME + "of an empty axis the result is another unknown, so that nobody asks",
    "positions._position: always `key not in": LESS + "a function of its own each time loses that equal places give equal positions",
    "positions._position: without filter": SAME + "lanes are variables, or 0 on an axis of one",
    # substitution
    "substitution.replacing: always `isinstance(a, Var)`": SAME + "only variables are keys",
    "substitution.atoms_of: dropped `seen.add(node)`": SAME + "each atom more than once",
    "substitution.atoms_of: never `node in seen`": SAME + "each atom more than once",
    "substitution.atoms_of: never `guards`": SAME + "a guard is also the condition that the application stands under",
    "substitution.atoms_of: always `guards`": SAME + "a guard is also the condition that the application stands under",
    "substitution.atoms_of: dropped `stack.append(node.guard)`": SAME + "a guard is also the condition that the application stands under",
    "substitution.atoms_of: dropped `yield node` (3)": SAME + "nobody looks for choices among the atoms",
    "substitution.Renaming._renamed: never `a.": SAME + "ids, iterations and lanes have both bounds",
    # obligations
    "obligations.Claim.hypotheses:": SAME + "the other bound mentions the variable, and the solver knows both bounds of what is mentioned",
    "obligations.value_claims: without condition of a case": SAME + "// and % are of integers only (ir.spec)",
    "obligations.value_claims: without what exists": LESS + "that the program, iteration and lane exist",
    "obligations._must_fit: without or `source is target`": SAME + "the builder makes no cast to the same type",
    "obligations._must_fit: without and `source.is_integer`": MORE + "that 0 and 1 fit",
    "obligations._must_fit: returns True": MORE + "that what has at most 63 bits fits 64",
    "obligations._must_fit: without the 1 of": SAME + "no type ends between the two numbers",
    "obligations.contract_claims: without assumption `access.active`": LESS + "an update of an array with a contract is refused, reached or not",
    "obligations.contract_claims: without what exists": LESS + "that the program, iteration and lane exist",
    # contracts
    "contracts.array_function: never `not param.dtype.is_integer`": SAME + "only elements of integer arrays are followed",
    "contracts.array_function: never `changes`": SAME + "a name in texts; and a Mut array with a relation that is written is refused by itself",
    "contracts.array_function: always `changes`": SAME + "a name in texts",
    "contracts.array_function.facts: without `terms.le(of_atom(app), highest)`": LESS + "the bound of the contract is below 2³¹, too",
    "contracts.array_function.facts: without and `not changes`": SAME + "a Mut array of offsets that is written is refused by itself",
    "contracts.array_function.facts: without condition": SAME + "what is said of the first and last element holds whether or not they are read",
    "contracts.array_function.pair_facts: without part of conjunction": SAME + "what is monotone, or never repeats, can be continued so",
    "contracts.array_function.pair_facts: without condition": SAME + "what is monotone, or never repeats, can be continued so",
    "contracts.array_function.pair_facts: lt for": LESS + "of equal positions, whose elements are equal anyway",
    "contracts.array_function: unknown function without `facts`": LESS + "of arrays that the kernel writes",
    "contracts.array_function: without and `contract.kind is ContractKind.INDEX`": SAME + "only an Index may be distinct",
    "contracts.array_function: without and `param.shape == (contract.bound,)`":
        SAME + "the witness for a coverage is below the bound, and is asked to be below the extent",
    # overflow
    "overflow.width_claims: without or `isinstance(op, ops.For": MORE + "of what loops and branches carry, whose parts are asked anyway",
    "overflow.offset_claim: without": LESS + "which lanes are active, or that they exist",
    "overflow._claim: always": SAME + "the sizes of arrays are assumed also where they are not needed",
    "overflow._claim: without what exists": LESS + "that the program, iteration and lane exist",
    "overflow._claim: without the 1 of `limit - 1` (2)": SAME + "a number in the text",
    "overflow._sizes: always": SAME + "two extents below 2³¹ have a product below 2⁶² anyway",
    "overflow._sizes: le for": LESS + "of arrays with exactly 2⁶² elements",
    "overflow._can_grow: returns True": MORE + "of operations whose results are no larger than their operands",
    "overflow._sum_bound: always `low": SAME + "intervals of indices are finite",
    "overflow._sum_bound: without and `low": SAME + "intervals of indices are finite",
    "overflow._sum_bound: without and `high": SAME + "intervals of indices are finite",
    "overflow._sum_bound: without and `0 <= shift": SAME + "a number shifted by 63 or more does not fit either way",
    "overflow.element_range:": SAME + "the language has no sums of bools",
    # races
    "races._commute: without and": SAME + "an array is stored to or updated, never both",
    "races.lanes_claim: without or `all(": MORE + "of stores with one lane",
    "races.lanes_claim: without what exists": LESS + "that the programs, iterations and lanes exist",
    "races.tiles_apart: without and `not wanted <= agreed`": SAME + "goes on until nothing new is found",
    "races.tiles_apart: always `fresh not in agreed`": SAME + "what is agreed on is not derived again",
    "races.race_claim: without what exists": LESS + "that the programs, iterations and lanes exist",
    # symbolic
    "symbolic.Symbols.path: without condition of a case": SAME + "a condition's own iteration has a variable of its own, which the body's condition does not mention",
    "symbolic.Symbols.iteration: without and": SAME + "a name",
    "symbolic.Symbols.iteration: without or": LESS + "of the last iteration of a bounded loop's body",
    "symbolic.Symbols.trips:": SAME + "the frontend makes positive steps only, and both formulas count alike",
    "symbolic.Symbols.block_of: always": SAME + "nobody asks it of a parameter",
    "symbolic.Symbols._reshaped: never `[e": SAME + "the general way to the same element",
    "symbolic.Symbols._reshaped: without filter `e != Const(1)`": SAME + "the general way to the same element",
    "symbolic.Symbols._reshaped: never `position == 0`": SAME + "the outermost digit is below its extent",
    "symbolic.Symbols._int: without case": LESS + "an unknown number",
    "symbolic.Symbols._binary: without case `BinaryOp.SHL`": LESS + "an unknown number",
    "symbolic.Symbols._binary: without and `0 <= y.constant": SAME + "shifts by 63 or more of what is followed do not fit, or give 0 or −1 by the formula, too",
    "symbolic.Symbols._div: never": LESS + "the solver finds the quotient",
    "symbolic.Symbols._div: without and `isinstance": SAME + "what is no quotient any more was simplified to a number",
    "symbolic.Symbols._extremum: never `self.ranges": LESS + "the solver finds which is smaller",
    "symbolic.Symbols._extremum: never `smaller` (2)": LESS + "the larger one in place of the smaller",
    "symbolic.Symbols._fitted: never": LESS + "the solver finds that it fits",
    "symbolic.Symbols._cast: never `source.is_bool`": LESS + "an unknown number",
    "symbolic.Symbols._cast: never `index in": LESS + "exact where it fits; that it does is an obligation of the cast",
    "symbolic.Symbols._load: without or `param.role is Role.IN`": SAME + "inputs are not written",
    "symbolic.Symbols.completed: always `not self": SAME + "the larger of 0 and what is not negative",
    "symbolic.Symbols.carried_function: unknown function without": LESS + "of the range of a carried number's type",
    "symbolic.Symbols.stride: never `key in": SAME + "worked out once more",
    "symbolic.Symbols.stride: without or `op.init[i].type.dtype": SAME + "what an iteration adds to a number of fixed width is no constant, as it may wrap",
    "symbolic.Symbols._bool: without case": LESS + "an unknown truth value",
    "symbolic.Symbols._bool: without condition of a case": SAME + "a float as a truth value is unknown either way",
    "symbolic.Symbols._carried_bool: always": LESS + "a function of its own each time loses that equal places give equal values",
    "symbolic.Symbols._comparison: without case": LESS + "an unknown truth value",
    "symbolic.Symbols._comparison: without and": SAME + "of integers only comparisons give truth values",
    "symbolic._is_low_mask: without and `c > 0`": SAME + "x & 0 is x mod 1, and x & −1 is x",
    # coverage
    "coverage._Solver.": LESS + "another witness, or none: that it is in range, active and right is proved of whatever is found",
    "coverage._quotient:": LESS + "another witness, or none: that it is in range, active and right is proved of whatever is found",
    "coverage._common_factor:": LESS + "another witness, or none: that it is in range, active and right is proved of whatever is found",
    "coverage.covers: never": SAME + "an Out array is stored to, never updated",
    "coverage.covers: returns True for `False`": SAME + "an Out array is stored to, never updated",
    "coverage._range_of: always": SAME + "ids, iterations and lanes have both bounds",
    "coverage._Guarded.__init__: always": SAME + "only variables are keys",
    # solver
    "solver.Solver.prove: never `any(": SAME + "the solver proves anything from what is false",
    "solver.Solver.prove: never `not exact`": MORE + "candidates of invariants are put to real products as well",
    "solver.Solver.prove: never `answer == z3.sat": SAME + "refuted or not known is refused either way; only the words differ",
    "solver.Solver.prove: always `answer == z3.sat": SAME + "refuted or not known is refused either way; only the words differ",
    "solver.Solver.prove: without and `answer": SAME + "refuted or not known is refused either way; only the words differ",
}  # fmt: skip
"""By the beginning of a switch's key."""


def explained(key: str) -> str | None:
    """Why no verdict shows a switch; None if nobody has said so."""
    return next((reason for start, reason in EQUIVALENT.items() if key.startswith(start)), None)
