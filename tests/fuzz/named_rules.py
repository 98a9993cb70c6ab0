"""The rules that a verdict rests on, each with the switch that takes it out and a kernel whose verdict then changes.

``wrong``: without the rule this kernel is accepted although it is wrong. ``right``: without it this one is refused although it
is right. The keys are those that ``python -m tests.fuzz.rules`` prints.
"""

from __future__ import annotations

WRONG: dict[str, tuple[str, str]] = {
    # obligations
    "indices are below the extent (and not negative)": (
        "obligations.bounds_claims: dropped `yield Claim(", "a program of M exists, so M is not 0, 1 (pairs)"),
    "indices are below, not at, the extent": (
        "obligations.bounds_claims: le for `terms.lt(coordinate, size)`", "a program of M exists, so M is not 0, 1 (pairs)"),
    "divisors are not 0": (
        "obligations.value_claims: dropped `yield Claim(Kind.DIVISION", "remainder, 2 (pairs)"),
    "gathered positions are inside": (
        "obligations.value_claims: dropped `yield Claim(Kind.BOUNDS", "gathered position that may be absent, 1 (pairs)"),
    "casts fit: high end": (
        "obligations.value_claims: no high end", "positions (rejected_narrow_cast)"),
    "casts fit: low end": (
        "obligations.value_claims: no low end", "cast of a negative index, 1 (pairs)"),
    "stored values keep the contract: high end": (
        "obligations.contract_claims: no high end", "stored index, 2 (pairs)"),
    "stored values keep the contract: low end": (
        "obligations.contract_claims: no low end", "stored index that may be absent, 1 (pairs)"),
    "updates keep no contract": (
        "obligations.contract_claims: dropped `yield Claim(Kind.CONTRACT, 'ZL0405'",
        "count (rejected_contract_of_an_accumulator)",
    ),
    "operations inside loops and branches have obligations": (
        "obligations.operations: dropped `yield from operations(inner)`", "an iteration exists, so N is not 0, 1 (pairs)"),
    # overflow
    "the step past a loop's end fits": (
        "overflow.width_claims: dropped `yield _claim(symbols, op, block, past", "loop counter past its end in 32 bits, 1 (pairs)"),
    "index values fit: high end": ("overflow._claim: no high end", "loop counter past its end in 32 bits, 1 (pairs)"),
    "index values fit: low end": ("overflow._claim: no low end", "a difference in 32 bits, 1 (pairs)"),
    "sums, differences, products and shifts can overflow": (
        "overflow._can_grow: returns False for `op.op in _GROWS`", "shifted index, 1 (pairs)"),
    "numbers folded from extents can overflow": (
        "overflow._can_grow: returns False for `not -(1 << 63) <= value < 1 << 63`",
        "a number folded from extents is an index, 1 (pairs)",
    ),
    "extents can overflow": ("overflow._can_grow: returns False for `True`", "extent of three dims, 1 (pairs)"),
    "sums and products of tiles can overflow": (
        "overflow._can_grow: returns False for `op.op in (ReduceOp.SUM", "product of indices, 1 (pairs)"),
    "negation and absolute value can overflow": (
        "overflow._can_grow: returns False for `op.op in (UnaryOp.NEG", "negation of the smallest index, 1 (pairs)"),
    "offsets fit 32 bits": (
        "overflow.offset_claim: always `symbols.function.index_bits == 64`", "copy (rejected_int32_row_offset)"),
    # races, lanes
    "stores of two programs": ("races.race_pairs: without or `writes.index(other) >= i", "both (rejected_mixed_updates)"),
    "a store and a load of two programs": ("races.race_pairs: dropped `yield", "shift (rejected_neighbour_in_place)"),
    "different updates do not commute": ("races._commute: without and `a.op.op is b.op.op`", "both (rejected_mixed_updates)"),
    "two lanes of one store": (
        "races.lanes_claim: always `isinstance(access.op, ops.Load | ops.Update) or", "put (rejected_broadcast_store)"),
    "tiles are apart only if all programs agree": (
        "races.tiles_apart: returns True for `wanted <= agreed`", "both (rejected_mixed_updates)"),
    "equal remainders of two accesses": (
        "races._consequences: without or `ra is not rb`", "shift (rejected_neighbour_in_place)"),
    # coverage
    "a witness is in range: high end": (
        "coverage._range_of: dropped `yield terms.le(v, high)`", "second_output_is_longer_than_the_first (refused)"),
    "a witness is in range: low end": (
        "coverage._range_of: dropped `yield terms.le(low, v)`", "segment_without_its_first (test_ragged)"),
    "a store in a while loop does not count": (
        "coverage.covers: never `isinstance(place.owner, ops.While)`", "while_loop_stops_before_what_its_condition_allows (refused)"),
    "as many distinct numbers as elements": (
        "contracts.array_function: without and `contract.distinct`",
        "as many distinct numbers below N as there are elements cover, 1 (pairs)"),
    # contracts
    "an optional entry may be −1": ("contracts.value_range: never `contract.optional`", "pick (rejected_branch_without_store)"),
    "a length may be the bound": ("contracts.value_range: never `inclusive`", "last (rejected_length_as_index)"),
    "only the first offset is 0": (
        "contracts.array_function.facts: without condition `terms.implies(terms.equal(i, 0)", "first offset is 0, 1 (pairs)"),
    "offsets are ordered as their places are": (
        "contracts.array_function.pair_facts: without condition `terms.implies(terms.le(i, j)", "one_result_per_tile (test_ragged)"),
    "absent entries are not distinct": (
        "contracts.array_function.pair_facts: without part of conjunction `terms.le(0, x)`", "distinct and present, 1 (pairs)"),
    "an element is read only where the mask says so": (
        "symbolic.Symbols._load: without part of conjunction `active`",
        "contract_holds_for_elements_not_for_padding (refused)"),
    "memory that the kernel writes changes": (
        "symbolic.Symbols._load: always `stable`", "index_is_loaded_again_after_a_store (refused)"),
    # values
    "fixed-width arithmetic wraps": (
        "symbolic.Symbols._fitted: always `low <= least and most <= high`",
        "narrow_addition_wraps_before_the_comparison (refused)"),
    "comparisons of floats are not followed": (
        "symbolic.Symbols._comparison: without and `dtype.is_integer`", "opposite_comparisons_of_a_nan_are_both_false (refused)"),
    "an extremum of nothing is not an element": (
        "positions.reduced_at: le for `terms.lt(0, size)`", "best (rejected_argmax_of_nothing)"),
    # loops
    "an invariant holds at the start": (
        "invariants.Invariants._infer: without or `not self._starts", "carried_index_is_swapped_with_a_larger_one (refused)"),
    "an iteration keeps an invariant": (
        "invariants.Invariants._infer: without or `not self._survives", "carried_index_is_swapped_with_a_larger_one (refused)"),
    "invariants are dropped until the rest proves itself": (
        "invariants.Invariants._infer: always `not broken`", "carried_index_is_swapped_with_a_larger_one (refused)"),
    "what iterations keep is known only where the loop runs": (
        "symbolic.Symbols._carried: without the guard of",
        "what iterations keep is known only where the loop runs, 1 (pairs)"),
    "of two carried values each is known only where the loop runs": (
        "invariants.Invariants._facts.facts: without the guard of",
        "of two carried values each is known only where the loop runs, 1 (pairs)"),
    "of no iterations none is the last": (
        "symbolic.Symbols._ended.facts: without condition `terms.implies(terms.lt(0, n), last)`",
        "of no iterations none is the last, 1 (pairs)"),
    "the last iteration is the one before the end": (
        "symbolic.Symbols._ended.facts: without the 1 of `n - 1`",
        "the condition held before the last iteration, 2 (pairs)"),
    "a bounded loop may also end at its limit": (
        "symbolic.Symbols._ended.facts: without condition `terms.implies(terms.lt(n, Placed",
        "a bounded loop that ends before its limit ends by its condition, 2 (pairs)"),
    # where a guard does not hold
    "a sort's order has the places that it has": (
        "positions.permutes: without part of conjunction `*places`", "a sort's order has the places that it has, 1 (pairs)"),
    "an element is read at lanes of its tile": (
        "symbolic.Symbols._load: without part of conjunction `self._exist", "distinct numbers are distinct at the places of their tile, 1 (pairs)"),
    "bits are of numbers that the type holds": (
        "bits.combined.known: without condition `terms.implies(fit", "more bits than a number of 64 has, 1 (pairs)"),
    "the least number by minus one does not fit": (
        "overflow._may_be_least: returns False", "the least number by minus one, 1 (pairs)"),
    "an element that no program writes has no program's facts": (
        "substitution.Placed.call: without the guard of",
        "an element that no program writes has no program's facts, 1 (pairs)"),
    "a permutation reaches its own elements": (
        "coverage._Solver._inverted: without the guard of", "a permutation reaches its own elements, 1 (pairs)"),
    "a permutation of nothing reaches nothing": (
        "coverage.inverse_of.facts: without the guard of", "a permutation of nothing reaches nothing, 1 (pairs)"),
    "an element is known to keep its contract only where it is read": (
        "symbolic.Symbols._load: without the guard of `terms.apply(self.arrays[op.array]",
        "contract_holds_for_elements_not_for_padding (refused)"),
    "an element that changes keeps its contract only where it is read": (
        "symbolic.Symbols._load: without the guard of `terms.apply(self.functions[key]",
        "an element that changes keeps its contract only where it is read, 1 (pairs)"),
    "an extremum of nothing has no position": (
        "positions._position: without the guard of", "best (rejected_argmax_of_nothing)"),
    "elements outside all segments have none": (
        "coverage._Solver._segments_found: without the guard of", "offsets begin at 0 and end at N, 1 (pairs)"),
    # relations of outputs
    "first, last and later offsets": (
        "relations.ordered_claims: dropped `yield Claim(Kind.CONTRACT, 'ZL0406', one.op.span, (one.active, assumption)",
        "values in order, from 0 to the total, are offsets, 2 (pairs)"),
    "later offsets are not smaller": (
        "relations.ordered_claims: dropped `yield Claim(Kind.CONTRACT, 'ZL0406', one.op.span, (one.active, rename",
        "values in order, from 0 to the total, are offsets, 3 (pairs)"),
    "offsets have an element": (
        "relations.ordered_claims: dropped `yield Claim(Kind.CONTRACT, 'ZL0406', found[0]",
        "offsets have at least one element, 1 (pairs)"),
    "distinct values": (
        "relations.distinct_claims: dropped `yield Claim(", "constant_as_permutation (test_relations)"),
    "constructed relations are stored whole, by one program": (
        "relations.constructed: returns True for `False`",
        "order_of_part (test_relations)",
    ),
    # segments
    "positions outside all segments": ("coverage._Solver._segments_found: no high end", "output_longer_than_the_segments (test_ragged)"),
}  # fmt: skip

RIGHT: dict[str, tuple[str, str]] = {
    "masks make lanes inactive": (
        "obligations.accesses.visit: without part of conjunction `symbols.masks_at(op.masks, lanes)`", "split_k (accepted)"),
    "programs and lanes exist": (
        "obligations.bounds_claims: without what exists", "a program of M exists, so M is not 0, 0 (pairs)"),
    "distinct entries differ": (
        "contracts.array_function.pair_facts: without `terms.implies(clash, same)`", "distinct and present, 0 (pairs)"),
    "offsets begin at 0": ("contracts.array_function.facts: dropped `known.append(terms.implies(terms.equal(i, 0)", "first offset is 0, 0 (pairs)"),
    "offsets end at the total": (
        "contracts.array_function.facts: dropped `known.append(terms.implies(terms.equal(i, extent", "last offset is N, 0 (pairs)"),
    "offsets never decrease": ("contracts.array_function: without or `contract.kind is ContractKind.OFFSETS`", "offsets in order, 0 (pairs)"),
    "permutations reach every element": (
        "contracts.array_function: unknown function without `permutes`", "permuted_scatter (accepted)"),
    "updates of one kind commute": ("races.race_pairs: without and `not _commute(write, other)`", "split_k (accepted)"),
    "a contract's array has elements only if its bound is positive": (
        "obligations.value_claims: without assumption `*indices`", "a page size is positive where there is a slot, 0 (pairs)"),
    "carried values have invariants": ("invariants.Invariants.everywhere: dropped `self._infer(loop)`", "clamped_walk (accepted)"),
    "a while loop's condition holds in its body": (
        "symbolic.Symbols.path: without part of conjunction `self.while_condition(place.owner)`", "binary_search (accepted)"),
    "a bounded loop does not do more iterations than its limit": (
        "symbolic.Symbols._ended: unknown function without `bounds`",
        "a bounded loop does not do more iterations than its limit, 0 (pairs)"),
    "a bounded loop that ends before its limit ends by its condition": (
        "symbolic.Symbols._ended: unknown function without `facts`",
        "a bounded loop that ends before its limit ends by its condition, 0 (pairs)"),
    "equal steps have a closed form": ("symbolic.Symbols._carried: never `step is not None`", "walking_index (accepted)"),
    "an extremum is not beyond the first element": (
        "positions.reduced_at: dropped `_extreme(symbols, op)`", "largest_of_a_span (accepted)"),
    "a sort's order has each position once": ("positions.permutes: without `terms.implies(", "sorted_rows (accepted)"),
    "indices are solved for what makes them": (
        "coverage.witness: dropped `solver.solve", "argmax_rows (accepted)"),
    "a permutation is inverted": ("coverage._Solver._inverted: never `isinstance(atom, App)", "sorted_rows (accepted)"),
    "rows before spans of a flat index": (
        "coverage._Solver.solve: never `not progress`", "a flat index of rows and spans, 0 (pairs)"),
    "or has bounds": ("bits.combined.known: without `*facts", "or, 0 (pairs)"),
    "exclusive or has an inverse": ("bits._invertible: without `terms.implies", "partners by exclusive or do not meet, 0 (pairs)"),
}  # fmt: skip
