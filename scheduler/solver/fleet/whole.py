"""The table of a plan in whole numbers, by CP-SAT."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from ortools.sat.python import cp_model

from scheduler.solver.fleet.table import FILLING, Table

NEAR = 3
"""How far a count may go from its value in the relaxation, where the table is large."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The value of every column; `bound` is proven for the columns that the table has, None where none was found."""

    values: tuple[int, ...]
    bound: int | None
    optimal: bool


def count(table: Table, near: Sequence[float] | None, limit: float, seconds: float) -> Counted | None:
    """Solve, close to the values of the relaxation where they are given. None where no solution was found in time."""
    model = cp_model.CpModel()
    variables = []
    for i, column in enumerate(table.columns):
        low, high = 0, column.most
        if near is not None:
            low = max(0, floor(near[i]) - NEAR)
            high = min(column.most, ceil(near[i]) + (NEAR if near[i] > 0 or column.what != FILLING else 1))
            if column.cost > 0 and column.what != FILLING:
                high = column.most
        variables.append(model.new_int_var(low, max(low, high), ""))
        if near is not None:
            model.add_hint(variables[-1], min(max(round(near[i]), low), max(low, high)))
    terms: list[list[tuple[int, int]]] = [[] for _ in table.bounds]
    for i, column in enumerate(table.columns):
        for row, amount in column.entries:
            terms[row].append((i, amount))
    for found, (least, most) in zip(terms, table.bounds, strict=True):
        if found:
            total = cp_model.LinearExpr.weighted_sum([variables[i] for i, _ in found], [amount for _, amount in found])
            model.add_linear_constraint(total, -(2**60) if least is None else least, 2**60 if most is None else most)
    model.minimize(cp_model.LinearExpr.weighted_sum(variables, [column.cost for column in table.columns]))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = limit
    solver.parameters.max_time_in_seconds = seconds
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    values = tuple(int(solver.value(variable)) for variable in variables)
    return Counted(values, floor(solver.best_objective_bound), status == cp_model.OPTIMAL)
