"""Racing on real programs: the right one of a mixed set, for a fraction of the executions.

The programs are ours (`data/mixed_programs.json`): two right ones for each task, and mutants of
them, in each of which one operator or number is changed. They are run here, on every case, before
any race is held.
"""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path

import pytest
from scillm.records import Outcome
from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.racing import Race

MUTANTS = 6
TASKS = json.loads((Path(__file__).parent / "data" / "mixed_programs.json").read_text("utf-8"))

SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.Div: ast.FloorDiv, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.Not: ast.UAdd,
}  # fmt: skip


def changed(node):
    """Changes one place of a program, in place; True if it is a place that can be changed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        node.value = node.value + 1
        return True
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()
        return True
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.UnaryOp)) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
        return True
    return False


def mutants(code):
    """Every program that differs from `code` in one place."""
    found = []
    for place in range(len(list(ast.walk(ast.parse(code))))):
        tree = copy.deepcopy(ast.parse(code))
        if changed(list(ast.walk(tree))[place]):
            found.append(ast.unparse(tree))
    return found


def ran(code, arguments):
    """What a program returns, or the exception it raises; none of ours can loop for ever."""
    names = {}
    exec(compile(code, "program", "exec"), names)
    try:
        return names["solve"](*copy.deepcopy(arguments))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return error


def programs(name):
    """Two right programs and some mutants by name, and for each whether each case is right."""
    cases = TASKS[name]["cases"]
    right = ["\n".join(lines) for lines in TASKS[name]["right"]]
    wanted = [ran(right[0], case) for case in cases]
    made = [mutant for code in right for mutant in mutants(code)]
    codes = [*right, *draws.order(sorted(set(made)), 0, name)[:MUTANTS]]
    rows = {}
    for code in codes:
        answers = [ran(code, case) for case in cases]
        rows[f"program-{len(rows)}"] = [
            None if isinstance(got, Exception) else float(got == want)
            for got, want in zip(answers, wanted, strict=True)
        ]
    return rows


@pytest.fixture(scope="module")
def mixed():
    """All programs of all tasks: a row of scores each, by task and program."""
    return {name: programs(name) for name in TASKS}


def race(rows, seed, **parameters):
    """The report of a race, and how many cases were run."""
    cases = len(next(iter(rows.values())))
    strategy = Race(list(rows), seed=seed, cases=cases, **parameters)
    ran_ = 0
    while (trial := strategy.ask()) is not None:
        ran_ += 1
        score = rows[trial.arm][trial.payload["case"]]
        status = "ok" if score is not None else "exception"
        strategy.tell(trial, Outcome(score=score, status=status))
    return strategy.report(), ran_


def test_the_set_is_mixed(mixed):
    """Right programs are a minority; wrong ones pass part of the cases, and some crash."""
    rows = [row for task in mixed.values() for row in task.values()]
    right = sum(row == [1.0] * len(row) for row in rows) / len(rows)

    assert len(rows) >= 70
    assert 0.25 <= right <= 0.5
    assert any(0 < row.count(1.0) < len(row) for row in rows)
    assert any(None in row for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_a_race_finds_a_right_program_for_a_quarter_of_the_executions(mixed, seed):
    """On every task the program named passes every case, at no more than 25 % of all runs."""
    executions = exhaustive = 0
    for rows in mixed.values():
        report, count = race(rows, seed)
        assert report["verified"]
        assert rows[report["best"]] == [1.0] * len(rows[report["best"]])
        executions += count
        exhaustive += sum(len(row) for row in rows.values())

    assert executions <= 0.25 * exhaustive


def test_no_seed_makes_a_race_cost_more_than_a_quarter(mixed):
    """A hundred seeds, each over all ten tasks: the dearest stays within 25 % of all runs."""
    exhaustive = sum(len(row) for rows in mixed.values() for row in rows.values())

    shares = [
        sum(race(rows, seed)[1] for rows in mixed.values()) / exhaustive for seed in range(100)
    ]

    assert max(shares) <= 0.25
    assert sum(shares) / len(shares) <= 0.18


def test_a_race_over_all_costs_less_than_everything(mixed):
    """Stopping each program at its first failure still names every right one."""
    executions = exhaustive = 0
    for rows in mixed.values():
        report, count = race(rows, 0, stop="all")
        right = {arm for arm, row in rows.items() if row == [1.0] * len(row)}
        assert {report["best"], *report["ties"]} == right
        executions += count
        exhaustive += sum(len(row) for row in rows.values())

    assert executions < 0.7 * exhaustive
