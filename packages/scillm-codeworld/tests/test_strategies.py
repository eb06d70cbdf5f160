"""What the strategies promise beyond the suite: failures, withdrawals, identity, growth, luck."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm.records import Outcome, evolve
from scillm.search import search
from scillm_codeworld.strategies import draws
from scillm_codeworld.strategies.archive import Evolve
from scillm_codeworld.strategies.bandits import Baseline, Thompson, ucb, uniform
from scillm_codeworld.strategies.book import Scale, Tally, scale_of, winner
from scillm_codeworld.strategies.cascade import Cascade
from scillm_codeworld.strategies.halving import Halving
from scillm_codeworld.strategies.mcts import mcts
from scillm_codeworld.strategies.posterior import ab
from scillm_codeworld.strategies.racing import Race

ARMS = tuple("abcdef")
FIXED = (uniform, Baseline, ucb, Thompson, Halving, mcts, ab, Evolve, Race, Cascade)
GROWING = (uniform, mcts, ab, Evolve)
SCORES = {arm: place / 10 for place, arm in enumerate(ARMS)}


def asked(strategy, most):
    return [trial for trial in (strategy.ask() for _ in range(most)) if trial is not None]


def play(strategy, outcome_of, width=1):
    """Every trial with its outcome, told in asked order."""
    told = []
    while window := asked(strategy, width):
        for trial in window:
            outcome = outcome_of(trial)
            strategy.tell(trial, outcome)
            told.append((trial, outcome))
    return told


def by_name(trial):
    return Outcome(score=SCORES[trial.arm])


# -- draws ---------------------------------------------------------------------------------------


@given(st.integers(), st.lists(st.text() | st.integers(), max_size=4))
def test_luck_is_a_function_of_seed_and_path(seed, path):
    """The same seed and path give the same draw, whatever was drawn before."""
    first = draws.uniform(seed, *path)
    draws.uniform(seed, *path, "other")

    assert draws.uniform(seed, *path) == first
    assert 0 <= first < 1
    assert draws.stream(seed, *path).random() == draws.stream(seed, *path).random()


def test_luck_is_even():
    """Each of five items comes in 2,000 draws between 320 and 480 times (400 and 4.5 sigma)."""
    counts = [0] * 5
    for number in range(2000):
        counts[draws.pick(range(5), 7, number)] += 1

    assert all(320 <= count <= 480 for count in counts)


@given(st.lists(st.integers(), unique=True), st.integers())
def test_a_drawn_order_loses_nothing(items, seed):
    """Shuffling keeps every item, and does not touch the list that was given."""
    before = list(items)

    assert sorted(draws.order(items, seed, "x")) == sorted(before)
    assert items == before


# -- scale and tallies -----------------------------------------------------------------------------

FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, max_size=20))
def test_an_observed_scale_puts_every_seen_score_between_zero_and_one(scores):
    """The lowest seen is 0 and the floor, the highest is 1; without a range it is one half."""
    scale = Scale()
    for score in scores:
        scale.see(score)

    if len(set(scores)) > 1:
        assert scale.unit(min(scores)) == 0
        assert scale.unit(max(scores)) == 1
    else:
        assert scale.unit(0.0) == 0.5
    assert scale.floor == min(scores, default=0.0)


@given(FINITE, FINITE)
def test_a_declared_scale_is_not_moved_by_scores(first, second):
    """What lies outside counts as the nearer end."""
    scale = scale_of((0, 1))
    scale.see(first)
    scale.see(second)

    assert (scale.low, scale.high, scale.floor) == (0, 1, 0)
    assert 0 <= scale.unit(first) <= 1


@given(st.lists(st.none() | FINITE, min_size=1, max_size=20), st.lists(st.none() | FINITE))
def test_merged_tallies_are_the_tally_of_both(one, other):
    """Counting two heaps together or apart is the same."""
    both, left, right = Tally(), Tally(), Tally()
    for score in one:
        left.take(score)
    for score in other:
        right.take(score)
    for score in [*one, *other]:
        both.take(score)
    left.merge(right)

    assert (left.scored, left.failed, left.top) == (both.scored, both.failed, both.top)
    assert math.isclose(left.mean(-1.0), both.mean(-1.0), rel_tol=1e-9, abs_tol=1e-6)
    assert left.deviation(-1.0) >= 0


def test_an_arm_that_failed_never_outranks_one_that_ran():
    """A program that crashed once is below one that was merely poor."""
    crashed, poor = Tally(), Tally()
    for score in (1.0, 1.0, None):
        crashed.take(score)
    for score in (0.1, 0.0, 0.1):
        poor.take(score)

    assert winner({"crashed": crashed, "poor": poor}, scale_of((0, 1)), cases=3) == ("poor", [])


def test_a_lucky_first_pull_does_not_win_over_a_well_known_arm():
    """Noisy arms are compared by a bound below the mean: 1 of 1 is less than 900 of 1,000."""
    lucky, known = Tally(scored=1, total=1.0), Tally(scored=1000, total=900.0)

    assert winner({"lucky": lucky, "known": known}, scale_of((0, 1)), cases=None)[0] == "known"


# -- fixed arms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", FIXED)
@pytest.mark.parametrize("width", [1, 4])
def test_with_as_many_rollouts_as_arms_the_best_is_found(make, width):
    """An arm that is run whole is run once, so nothing is left to luck."""
    for seed in range(10):
        told = play(make(ARMS, seed=seed), by_name, width)

        if make is not Race:
            assert sorted(trial.arm for trial, _ in told) == list(ARMS)
        assert all(trial.kind == "run" for trial, _ in told)
    assert make(ARMS, seed=0).report()["best"] is None


@pytest.mark.parametrize("make", FIXED)
def test_the_best_arm_is_named_with_its_score_and_its_ties(make):
    """Ties are listed, and a failed arm is not among them."""
    strategy = make(ARMS, seed=3)
    play(strategy, lambda t: Outcome(score=None if t.arm == "a" else 1.0 - (t.arm == "b")))
    report = strategy.report()

    assert report["best"] in "cdef"
    assert report["best_score"] == 1.0
    assert (
        report["failed"] == sum(1 for arm in report["arms"] if arm == "a" and make is not Race)
        or make is Race
    )
    assert set(report["ties"]) <= set("cdef") - {report["best"]}


@pytest.mark.parametrize("make", [uniform, ucb, Thompson, mcts, ab, Evolve, Race])
def test_the_order_of_trying_comes_from_the_seed(make):
    """Over twenty seeds different arms are tried first, and the order given decides nothing."""
    firsts = {make(ARMS, seed=seed).ask().arm for seed in range(20)}

    assert len(firsts) > 3


@pytest.mark.parametrize(
    ("make", "parameters"),
    [(make, {}) for make in FIXED]
    + [(make, {"cases": 3}) for make in FIXED if make not in (Baseline, Evolve)],
)
def test_a_withdrawn_trial_leaves_no_trace(make, parameters):
    """After every trial failed to be evaluated once, all arms are tried as often as ever."""
    cases = parameters.get("cases", 1)
    strategy = make(ARMS, seed=5, **parameters)
    seen, told = set(), []
    while (trial := strategy.ask()) is not None:
        pull = (trial.arm, str(trial.payload))
        if pull not in seen:
            seen.add(pull)
            strategy.tell(trial, Outcome(score=None, status="sandbox_refused", withdrawn=True))
            continue
        told.append(pull)
        strategy.tell(trial, Outcome(score=0.6))
    report = strategy.report()

    assert report["failed"] == 0
    assert report["withdrawn"] == len(seen)
    assert len(told) == len(set(told)) == report["trials"]
    if make is not Halving and not (make is Race and cases > 1):
        assert len(told) == len(ARMS) * cases


@pytest.mark.parametrize("make", [uniform, ucb, Thompson, mcts])
def test_each_case_of_each_arm_is_asked_for_once(make):
    """With `cases`, a pull is one test case, and none is repeated."""
    told = play(make(ARMS, cases=4), by_name, width=3)
    pulls = [(trial.arm, trial.payload["case"]) for trial, _ in told]

    assert sorted(pulls) == sorted(itertools.product(ARMS, range(4)))
    assert {trial.kind for trial, _ in told} == {"case"}


def test_timings_are_asked_for_by_their_kind():
    """Noisy pulls go on until the rollouts are used up."""
    told = play(ucb(ARMS, cases=None, kind="timing", rollouts=50), by_name, width=4)

    assert len(told) == 50
    assert {trial.kind for trial, _ in told} == {"timing"}


@pytest.mark.parametrize("make", [ucb, Thompson, mcts, Halving])
@pytest.mark.parametrize("seed", range(5))
def test_timings_are_spent_on_the_close_contenders(make, seed):
    """Ten programs, two of them nearly equally fast: those get more than alike, and one wins.

    Every timing is the true one and what a busy machine adds, drawn here from an exponential.
    """
    true_s = {f"p{place}": 0.001 * 2**place for place in range(1, 9)} | {"a": 0.001, "b": 0.0011}

    def timing(trial):
        luck = draws.stream(seed, trial.number, "noise")
        return Outcome(score=1 / (true_s[trial.arm] * (1 + luck.expovariate(5))))

    strategy = make(list(true_s), seed=seed, cases=None, kind="timing", rollouts=200)
    told = play(strategy, timing, width=2)

    spent = sum(trial.arm in ("a", "b") for trial, _ in told)
    assert strategy.report()["best"] in ("a", "b")
    assert spent > 2 * 200 * 2 / 10


def test_timings_can_be_counted_off():
    """With `cases` an arm is timed at most so often, one that was taken back once more."""
    strategy = ucb(ARMS, cases=3, kind="timing", rollouts=50)
    strategy.tell(strategy.ask(), Outcome(score=None, withdrawn=True))

    told = play(strategy, by_name, width=4)

    assert sorted(trial.arm for trial, _ in told) == sorted(ARMS * 3)
    assert {(trial.kind, trial.payload) for trial, _ in told} == {("timing", None)}


@pytest.mark.parametrize("make", [ucb, mcts])
def test_pulls_in_flight_are_spread(make):
    """Eight pulls asked at once of equal arms are not eight of the same (WU-UCT)."""
    strategy = make(ARMS, cases=None, bounds=(0, 1), rollouts=100)
    for trial in asked(strategy, 6):
        strategy.tell(trial, Outcome(score=0.5))
    window = [trial.arm for trial in asked(strategy, 12)]

    assert sorted(window) == sorted(ARMS * 2)


def test_an_arm_whose_first_pull_is_in_flight_is_not_asked_for_again_before_the_others():
    """Asked but not told is visited; what only has pulls in flight counts as its parent's mean."""
    strategy = ucb(ARMS, cases=None, bounds=(0, 1), rollouts=100)
    window = [trial.arm for trial in asked(strategy, 13)]

    assert set(window[:6]) == set(window[6:12]) == set(ARMS)


def test_range_and_not_size_of_the_scores_decides():
    """The same search on scores a thousand times as large, and shifted, asks the same."""
    small = play(ucb(ARMS, cases=None, rollouts=60, seed=1), by_name)
    large = play(
        ucb(ARMS, cases=None, rollouts=60, seed=1),
        lambda trial: Outcome(score=1024 * SCORES[trial.arm] + 4096),
    )

    assert [trial for trial, _ in small] == [trial for trial, _ in large]


def test_halving_keeps_the_better_half():
    """Eight arms, three rounds of 80 pulls: 10 each for 8, 20 for 4, 40 for 2."""
    strategy = Halving("abcdefgh", cases=None, rollouts=240)
    told = play(strategy, lambda trial: Outcome(score=float("abcdefgh".index(trial.arm))), 5)
    pulls = {arm: sum(trial.arm == arm for trial, _ in told) for arm in "abcdefgh"}

    assert strategy.report()["kept"] == [8, 4, 2]
    assert strategy.report()["best"] == "h"
    assert pulls["a"] == 10
    assert pulls["h"] == 10 + 20 + 40


def test_arms_may_be_prefixes_of_each_other():
    """`a` and `a/b` are two arms, whatever the tree looks like."""
    told = play(mcts(["a", "a/b", "a/b/c", "/"], separator="/"), lambda trial: Outcome(score=1.0))

    assert sorted(trial.arm for trial, _ in told) == ["/", "a", "a/b", "a/b/c"]


@pytest.mark.parametrize("make", [*FIXED])
def test_a_trial_that_is_not_outstanding_is_refused(make):
    """Telling twice, or something that was never asked, is a mistake of the caller."""
    strategy = make(ARMS)
    trial = strategy.ask()
    with pytest.raises(UsageError, match="not outstanding"):
        strategy.tell(evolve(trial, number=7), Outcome(score=1.0))
    strategy.tell(trial, Outcome(score=1.0))

    with pytest.raises(UsageError, match="not outstanding"):
        strategy.tell(trial, Outcome(score=1.0))


@pytest.mark.parametrize("make", FIXED)
@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e200])
def test_a_score_that_cannot_be_compared_is_refused(make, score):
    """NaN and infinity are not scores; an arm without a score has None."""
    strategy = make(ARMS)

    with pytest.raises(UsageError, match="A score is a number"):
        strategy.tell(strategy.ask(), Outcome(score=score))


@pytest.mark.parametrize("make", FIXED)
def test_doubled_arms_are_refused(make):
    """Two arms of one name could not be told apart."""
    with pytest.raises(UsageError, match="a came more than once"):
        make(["a", "b", "a"])


@pytest.mark.parametrize(
    ("make", "parameters", "message"),
    [
        (uniform, {"rollouts": 0}, "rollouts must be at least 1"),
        (uniform, {"cases": 0}, "cases must be at least 1"),
        (uniform, {"kind": "guess"}, "kind must be one of run, timing"),
        (uniform, {"generate": True, "cases": 2}, "cases must be 1, not 2"),
        (ucb, {"bounds": (1, 0)}, "low before high"),
        (ucb, {"bounds": (0, math.nan)}, "two finite numbers"),
        (ucb, {"bounds": (0, 1, 2)}, "two finite numbers"),
        (ucb, {"c": math.nan}, "c must be at least 0"),
        (mcts, {"uct_c": 1.0, "exploration_constant": 2.0}, "give one"),
        (mcts, {"uct_c": -1.0}, "c must be at least 0"),
        (mcts, {"uct_c": -1.0, "generate": True}, "uct_c must be at least 0"),
        (mcts, {"depth": -1, "generate": True}, "depth must be at least 0"),
        (mcts, {"backup": "median"}, "mean, max, mixed"),
        (mcts, {"generate": True, "separator": "/"}, "separator is for fixed arms"),
        (mcts, {"generate": True, "widen_k": 0}, "widen_k must be above 0"),
        (mcts, {"generate": True, "widen_alpha": 2}, "widen_alpha between 0 and 1"),
        (ab, {"generate": True, "cases": None}, "cases must be 1, not None"),
        (ab, {"generate": True, "kind": "timing"}, "kind must be run, not timing"),
        (Evolve, {"islands": 0}, "islands must be at least 1"),
        (Evolve, {"explore": 2}, "explore and pressure are between 0 and 1"),
        (Evolve, {"inspirations": -1}, "inspirations must be at least 0"),
        (Race, {"stop": "never"}, "stop must be one of first_pass, all"),
        (Cascade, {"cases": 3, "stages": [1, 1]}, "add up to the 3 cases"),
        (Cascade, {"cases": 3, "thresholds": []}, "1 thresholds between them, but 0 came"),
    ],
)
def test_impossible_parameters_are_named(make, parameters, message):
    """The message says what was wanted and what came."""
    with pytest.raises(UsageError, match=message):
        make(ARMS, **parameters)


@pytest.mark.parametrize("alias", [{"exploration_constant": 1.5}, {"uct_c": 1.5}], ids=str)
def test_exploration_constant_is_the_other_name_of_uct_c(alias):
    """Both are accepted, and mean the same."""
    wanted = mcts(ARMS, uct_c=1.5, exploration_constant=1.5, cases=None, rollouts=80)
    given_ = mcts(ARMS, cases=None, rollouts=80, **alias)

    assert play(given_, by_name) == play(wanted, by_name)


# -- made arms -------------------------------------------------------------------------------------


def grower(seed=0, **more):
    """An evaluation that makes arms: a walk on the integers towards 20."""

    def outcome_of(trial):
        if not trial.new:
            return Outcome(score=0.0)
        luck = random.Random(f"{seed}/{trial.number}")
        start = 0 if trial.parent is None or trial.parent in ARMS else int(trial.parent)
        made = start + luck.choice((-1, 1, 2))
        return Outcome(
            score=-abs(20 - made) / 20,
            arm=str(made),
            features={"size": made, "odd": "ny"[made % 2]},
        )

    return outcome_of


@pytest.mark.parametrize("make", GROWING)
@pytest.mark.parametrize("width", [1, 6])
def test_given_arms_come_first_and_then_as_many_new_ones_as_there_are_rollouts(make, width):
    """Each trial for a new arm says so, and from what to start."""
    strategy = make(ARMS, generate=True, rollouts=60, seed=2)
    told = play(strategy, grower(), width)
    known = set(ARMS)
    for trial, _ in told[: len(ARMS)]:
        assert trial.arm in ARMS
        assert not trial.new
    for trial, outcome in told[len(ARMS) :]:
        assert trial.new
        assert trial.kind == "generate"
        assert trial.arm not in known
        assert trial.parent is None or trial.parent in known
        known.add(outcome.arm)

    assert len(told) == 60
    assert strategy.report()["best"] in known


@pytest.mark.parametrize("make", GROWING)
def test_the_same_code_twice_is_one_arm(make):
    """A generator that always returns one of two programs has made two arms, and repeats."""
    strategy = make([], generate=True, rollouts=30)
    play(strategy, lambda trial: Outcome(score=0.5, arm=f"sha256:{trial.number % 2}"))
    report = strategy.report()

    assert set(report["arms"]) == {"sha256:0", "sha256:1"}
    assert report["made"] == 2
    assert report["repeats"] == 28


@pytest.mark.parametrize("make", GROWING)
def test_nothing_can_be_made_and_the_search_still_ends(make):
    """A generator that fails every time costs its rollouts and wins nothing."""
    strategy = make([], generate=True, rollouts=25)
    told = play(strategy, lambda trial: Outcome(score=None, status="exception"), width=3)

    assert len(told) == 25
    assert strategy.report()["best"] is None
    assert strategy.report()["failed"] == 25


@pytest.mark.parametrize("make", GROWING)
def test_a_withdrawn_generation_is_no_rollout(make):
    """The generator's network fault is not the candidate's, and leaves no arm behind."""
    strategy = make(["a"], generate=True, rollouts=12)
    broken = set()

    def outcome_of(trial):
        if trial.number % 3 == 0 and trial.number not in broken:
            broken.add(trial.number)
            return Outcome(score=None, status="unreachable", withdrawn=True)
        return Outcome(score=1.0 / (2 + trial.number), arm=None)

    play(strategy, outcome_of, width=2)
    report = strategy.report()

    assert report["trials"] == 12
    assert report["withdrawn"] == len(broken) > 0
    assert len(report["arms"]) == 12


@pytest.mark.parametrize("make", GROWING)
def test_a_provisional_name_is_never_one_that_was_given(make):
    """Arms may be called anything, `new-1` too."""
    strategy = make(["new-1", "new-2"], generate=True, rollouts=8)
    told = play(strategy, lambda trial: Outcome(score=0.5))
    names = [trial.arm for trial, _ in told]

    assert len(set(names)) == len(names) == 8


@pytest.mark.parametrize("make", [mcts, ab])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_depth_is_the_number_of_generations_of_refinement(make, depth):
    """0 makes fresh drafts only; 2 refines refinements, and not further."""
    strategy = make(["a"], generate=True, depth=depth, rollouts=60)
    generation = {"a": 0}
    for trial, _ in play(strategy, lambda trial: Outcome(score=0.1 * (trial.number % 7)))[1:]:
        generation[trial.arm] = 0 if trial.parent is None else generation[trial.parent] + 1

    assert max(generation.values()) == depth == strategy.report()["reached"]


@pytest.mark.parametrize("make", [mcts, ab])
def test_a_refinement_that_leads_back_closes_no_circle(make):
    """A generator that walks round in a ring of three programs is searched without end or error."""
    following = {None: "x", "x": "y", "y": "z", "z": "x"}
    strategy = make([], generate=True, rollouts=60)
    play(strategy, lambda t: Outcome(score=ord(following[t.parent]) / 256, arm=following[t.parent]))
    report = strategy.report()

    assert set(report["arms"]) == {"x", "y", "z"}
    assert report["best"] == "z"
    assert set(report["parents"]["x"]) == {None, "z"}


def test_two_ways_to_the_same_program_join():
    """A diamond: both refinements of a draft lead to one program, which is one node."""
    ways = itertools.cycle("xy")
    strategy = mcts([], generate=True, rollouts=60, uct_c=2.0)

    def outcome_of(trial):
        arm = "top" if trial.parent is None else "end" if trial.parent in "xy" else next(ways)
        return Outcome(
            score=0.5 + 0.4 * (arm == "end"), arm="end" if trial.parent == "end" else arm
        )

    play(strategy, outcome_of)

    assert set(strategy.report()["parents"]["end"]) >= {"x", "y"}


def test_widening_has_its_bound():
    """A node has at most k * visits ** alpha children: here 60 visits and 8 drafts at most."""
    strategy = mcts([], generate=True, rollouts=60, depth=60, widen_k=1)
    told = play(strategy, lambda trial: Outcome(score=1.0 / (1 + trial.number)))
    drafts = [trial for trial, _ in told if trial.parent is None]

    assert 1 < len(drafts) <= math.ceil(60**0.5)


def test_wider_or_deeper_follows_what_is_found():
    """Where refinements are better than drafts it goes deeper than where they are worse."""

    def deepened(*, better):
        strategy = ab([], generate=True, rollouts=80, bounds=(0, 1), seed=4)
        told = play(
            strategy, lambda t: Outcome(score=0.9 if (t.parent is not None) == better else 0.1)
        )
        return sum(trial.parent is not None for trial, _ in told)

    assert deepened(better=True) > 60
    assert deepened(better=False) < 40


def test_evolution_climbs_where_blind_drafts_do_not():
    """On the walk towards 20 the archive arrives; drafts stay within two steps of the start."""
    bred, drafted = (make([], generate=True, rollouts=150, seed=1) for make in (Evolve, uniform))
    play(bred, grower())
    play(drafted, grower())

    assert bred.report()["best"] == "20"
    assert drafted.report()["best"] == "2"


def test_an_archive_keeps_the_best_of_every_cell():
    """Numbers fall into powers of two, texts are as they are, and only better ones replace."""
    strategy = Evolve([], generate=True, islands=1, rollouts=5, resolution=1)
    script = [(0.5, 1.0, "a"), (0.4, 1.5, "a"), (0.9, 2.0, "a"), (0.1, -8.0, "a"), (0.2, 1.0, "b")]
    play(
        strategy,
        lambda t: Outcome(
            score=script[t.number][0],
            features={"size": script[t.number][1], "kind": script[t.number][2]},
        ),
    )
    (island,) = strategy.report()["islands"]

    assert [(elite["cell"]["size"], elite["cell"]["kind"], elite["score"]) for elite in island] == [
        (1, "a", 0.9),
        (-4, "a", 0.1),
        (1, "b", 0.2),
    ]


def test_islands_send_their_best_on():
    """After every migration the next island holds at least as good an arm as its neighbour had."""
    strategy = Evolve([], generate=True, islands=3, rollouts=90, migrate_every=30, explore=0)
    play(strategy, grower())
    report = strategy.report()

    assert report["migrations"] > 0
    assert len(report["islands"]) == 3
    assert max(elite["score"] for elite in report["islands"][0]) == report["best_score"]


def test_inspirations_are_elites_of_the_same_island_and_never_the_parent():
    """What goes into a prompt is known by then, and different from what is refined."""
    strategy = Evolve(ARMS, generate=True, rollouts=60, inspirations=2)
    told = play(strategy, grower())
    known = set(ARMS)
    for trial, outcome in told:
        if trial.new:
            along = trial.payload["inspirations"]
            assert len(along) <= 2
            assert set(along) <= known - {trial.parent}
            known.add(outcome.arm)


def test_a_parent_is_drawn_even_when_only_the_top_may_breed():
    """With pressure 0 the best elite breeds, with 1 every rank does."""
    for pressure in (0.0, 1.0):
        strategy = Evolve([], generate=True, rollouts=40, pressure=pressure, explore=0.0)
        told = play(strategy, grower())

        assert any(trial.parent is not None for trial, _ in told)


def test_a_feature_that_is_no_number_is_refused():
    """An archive has no cell for NaN."""
    strategy = Evolve(["a"])

    with pytest.raises(UsageError, match="A feature is a finite number"):
        strategy.tell(strategy.ask(), Outcome(score=1.0, features={"size": math.nan}))


@pytest.mark.parametrize("make", GROWING)
@pytest.mark.parametrize("width", [1, 5])
def test_a_search_that_grows_can_be_resumed_at_any_point(make, width):
    """Folding the record and going on gives the run that was never interrupted."""
    outcome_of = grower()

    async def evaluate(trial):
        return outcome_of(trial)

    def run(**more):
        async def main():
            strategy = make(ARMS, generate=True, rollouts=40, seed=9)
            return await search(strategy, evaluate, width=width, **more)

        return anyio.run(main)

    whole = run()
    for told in range(0, 41, 7):
        assert run(history=whole.trials[:told], workers=1) == whole


# -- racing ----------------------------------------------------------------------------------------


def matrix(rows):
    """An evaluation from rows of `1` (right), `0` (wrong) and `x` (crashed), one per program."""

    def outcome_of(trial):
        mark = rows[trial.arm][trial.payload["case"]]
        if mark == "x":
            return Outcome(score=None, status="exception")
        return Outcome(score=float(mark))

    return outcome_of


ROWS = st.dictionaries(
    st.text(min_size=1, max_size=3), st.text("10x", min_size=4, max_size=4), min_size=1, max_size=6
)


@given(ROWS, st.integers(0, 99), st.integers(1, 5))
def test_a_race_never_names_a_wrong_program_while_there_is_a_right_one(rows, seed, width):
    """`verified` is true exactly when some program passes every case, and then `best` does."""
    strategy = Race(list(rows), seed=seed, cases=4)
    told = play(strategy, matrix(rows), width)
    report = strategy.report()
    right = {arm for arm, row in rows.items() if row == "1111"}

    assert report["verified"] == bool(right)
    assert not right or report["best"] in right
    assert report["executions_saved"] == 4 * len(rows) - len(told)


@given(ROWS, st.integers(0, 99))
def test_a_race_over_all_finds_every_right_program(rows, seed):
    """With stop="all" the winners are all that pass, and each loser ran to its first failure."""
    strategy = Race(list(rows), seed=seed, cases=4, stop="all")
    play(strategy, matrix(rows))
    report = strategy.report()
    right = {arm for arm, row in rows.items() if row == "1111"}

    assert {arm for arm, lane in report["arms"].items() if lane["passed"] == 4} == right
    assert all(lane["ran"] - lane["passed"] <= 1 for lane in report["arms"].values())
    assert not right or {report["best"], *report["ties"]} == right


@given(ROWS, st.integers(0, 99))
def test_without_a_gate_every_case_is_run(rows, seed):
    """Then the best is the program that passes most."""
    strategy = Race(list(rows), seed=seed, cases=4, stop="all", gate=False)
    told = play(strategy, matrix(rows))
    best = strategy.report()["best"]

    assert len(told) == 4 * len(rows)
    assert best is None or rows[best].count("1") == max(row.count("1") for row in rows.values())


def test_the_case_that_failed_most_programs_goes_first():
    """Before any failure the later ones; after it the telling case is tried first on the others."""
    rows = dict.fromkeys(ARMS, "1011")
    told = play(Race(ARMS, cases=4), matrix(rows))

    assert [trial.payload["case"] for trial, _ in told] == [3, 2, 1, *[1] * 5]


def test_a_cascade_lets_only_the_promising_on():
    """Two cheap cases for all, then the rest for those right at least half the time."""
    rows = {"a": "0011", "b": "1011", "c": "1111", "d": "xx11"}
    strategy = Cascade(list(rows), cases=4, stages=[2, 2])
    told = play(strategy, matrix(rows), width=3)
    report = strategy.report()

    assert len(told) == 4 * 2 + 2 * 2
    assert report["entered"] == [4, 2]
    assert report["best"] == "c"


def test_a_cascade_that_nobody_passes_still_names_the_best():
    """Nobody reached the second stage; the best of the first is named, with who ties."""
    rows = {"a": "000", "b": "x00", "c": "000"}
    strategy = Cascade(list(rows), cases=3)
    play(strategy, matrix(rows))

    assert strategy.report()["entered"] == [3, 0]
    assert strategy.report()["best"] == "a"
    assert strategy.report()["ties"] == ["c"]


def test_a_cascade_stops_at_its_rollouts():
    """Three executions are three, whatever the stage."""
    strategy = Cascade(ARMS, cases=4, rollouts=3)

    assert len(play(strategy, lambda trial: Outcome(score=1.0))) == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 3), (1.2, 1.1), (300, 700)])
def test_draws_of_a_beta_distribution_have_its_mean_and_variance(shape):
    """mean a/(a+b), variance ab/((a+b)²(a+b+1)); 20,000 draws, at 5 standard errors."""
    a, b = shape
    luck, of = draws.stream(1, "beta"), draws.shape(a, b)
    found = [draws.beta(luck, of) for _ in range(20_000)]
    mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
    own = statistics.fmean(found)

    assert 0 <= min(found) <= max(found) <= 1
    assert abs(own - mean) < 5 * math.sqrt(variance / len(found))
    assert statistics.pvariance(found) == pytest.approx(variance, rel=0.06)


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.integers(0, 2**32))
def test_a_draw_lies_between_0_and_1_whatever_the_shape(a, b, seed):
    """Also for parameters that differ from 1 by a rounding error."""
    assert 0 <= draws.beta(draws.stream(seed, "x"), draws.shape(a, b)) <= 1
