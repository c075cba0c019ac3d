"""Settings are one flat set; all that is wrong with them is one error, before anything runs."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from nerv.errors import ConfigError, NervError
from nerv.settings import Settings, cores, settings_from, workers_for
from tests.house.commands import REPOSITORY, run_command


def refusal(**given):
    """What the one error says."""
    with pytest.raises(ConfigError) as caught:
        settings_from(given)
    return str(caught.value)


def test_nothing_given_is_the_documented_defaults():
    assert msgspec.structs.asdict(settings_from({})) == {
        "workers": min(32, cores() + 4),
        "processes": cores(),
        "max_coroutines": 1000,
        "pools": {},
        "default_pool": None,
        "resources": {},
        "scheduling": "ready",
        "failure_policy": "fail_fast",
        "history_limit": 1000,
        "keep": 1000,
        "cache": None,
        "journal": None,
        "durability": "group",
        "max_recoveries": 10,
        "grace": 5.0,
    }


def test_defaults_made_by_hand_equal_those_made_from_nothing():
    assert Settings() == settings_from({})


def test_cores_are_those_this_process_may_use():
    assert cores() == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    "given",
    [
        {"workers": 1, "processes": 3, "max_coroutines": 10_000},
        {"scheduling": "levels", "failure_policy": "continue"},
        {"history_limit": 0, "keep": 0, "grace": 0.0},
        {"default_pool": "process"},
        {"default_pool": None},
        {"cache": "kept.db"},
        {"cache": None},
    ],
)
def test_what_is_allowed_arrives_as_it_was_given(given):
    settings = settings_from(given)
    assert {name: getattr(settings, name) for name in given} == given


def test_the_cache_may_be_named_by_a_path_object():
    assert settings_from({"cache": Path("folder") / "kept.db"}).cache == f"folder{os.sep}kept.db"


@pytest.mark.parametrize("wrong", ["", 3, b"kept.db", True, ["kept.db"]])
def test_a_cache_is_named_by_a_path(wrong):
    assert "cache takes the path of a file, or None, not" in refusal(cache=wrong)


def test_whole_seconds_are_seconds():
    grace = settings_from({"grace": 3}).grace
    assert (grace, type(grace)) == (3.0, float)


@pytest.mark.parametrize("value", [True, 0, -1, 2.0, "2", None, [2]])
@pytest.mark.parametrize("name", ["workers", "processes", "max_coroutines"])
def test_a_number_of_workers_is_a_whole_number_from_one(name, value):
    assert f"{name} takes a whole number from 1, not " in refusal(**{name: value})


@pytest.mark.parametrize("value", [False, -1, 0.0, "many", None])
@pytest.mark.parametrize("name", ["keep", "history_limit"])
def test_a_number_of_things_to_keep_is_a_whole_number_from_zero(name, value):
    assert f"{name} takes a whole number from 0, not {value!r}" in refusal(**{name: value})


@pytest.mark.parametrize("value", ["5s", True, None, -0.1, float("nan"), float("inf"), -float("inf"), 10**400])
def test_grace_is_a_finite_number_of_seconds(value):
    assert "grace takes a number of seconds" in refusal(grace=value)


@pytest.mark.parametrize("name", ["scheduling", "failure_policy"])
@pytest.mark.parametrize("value", ["magic", "", None, 1, ["ready"], b"ready"])
def test_a_choice_is_one_of_its_names(name, value):
    assert f"{name} takes " in refusal(**{name: value})


def test_an_unknown_setting_is_named_with_the_nearest_one():
    assert "there is no setting 'wrokers' (did you mean 'workers'?)" in refusal(wrokers=2)


def test_a_choice_that_is_nearly_right_is_named_with_the_nearest_one():
    assert "not 'fail-fast' (did you mean 'fail_fast'?)" in refusal(failure_policy="fail-fast")


def test_one_error_lists_everything():
    message = refusal(wrokers=2, workers=0, keep=-1, pools={"p": {"kind": "warp"}, "q": 3}, default_pool="r")
    assert message.startswith("6 settings can't be right:")
    parts = ("'wrokers'", "workers takes", "keep takes", "pools['p']: kind takes", "pools['q'] takes", "default_pool")
    for part in parts:
        assert part in message


def test_the_error_is_a_value_error_and_one_of_nervs():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, NervError)


def test_a_value_that_is_long_is_shown_short():
    assert len(refusal(workers="x" * 10_000)) < 300


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (3, "pools['p'] takes a mapping"),
        ({}, "pools['p'] needs a kind"),
        ({"kind": "warp"}, "pools['p']: kind takes \"thread\", \"process\", \"async\" or \"dask\", not 'warp'"),
        ({"kind": "proces"}, "(did you mean 'process'?)"),
        ({"kind": ["thread"]}, "pools['p']: kind takes"),
        ({"kind": "thread", "size": 2}, "pools['p']: a pool has no 'size'"),
        ({"kind": "thread", "worker": 2}, "(did you mean 'workers'?)"),
        ({"kind": "thread", "workers": 0}, "pools['p']: workers takes a whole number from 1"),
        ({"kind": "thread", "workers": True}, "pools['p']: workers takes a whole number from 1"),
        ({"kind": "thread", "workers": "mixd"}, "(did you mean 'mixed'?)"),
        ({"kind": "thread", "workers": None}, "pools['p']: workers takes"),
    ],
)
def test_a_pool_that_cannot_be_right_is_named_with_its_key(pool, said):
    assert said in refusal(pools={"p": pool})


@pytest.mark.parametrize("name", ["thread", "process", "async", "inline", "auto"])
def test_nervs_own_pool_names_are_taken(name):
    assert f"pools['{name}']" in refusal(pools={name: {"kind": "thread"}})


@pytest.mark.parametrize("name", ["", 4, None])
def test_a_pool_has_a_name(name):
    assert "a pool's name is a str that isn't empty" in refusal(pools={name: {"kind": "thread"}})


def test_pools_are_a_mapping():
    assert "pools takes a mapping" in refusal(pools=["p"])


def test_the_default_pool_may_be_one_of_your_own():
    assert settings_from({"pools": {"mine": {"kind": "thread"}}, "default_pool": "mine"}).default_pool == "mine"


@pytest.mark.parametrize("name", ["mien", ""])
def test_the_default_pool_is_a_pool_that_there_is(name):
    assert "default_pool takes a pool's name" in refusal(pools={"mine": {"kind": "thread"}}, default_pool=name)


def test_a_pool_without_workers_has_as_many_as_the_built_in_one():
    pools = {"t": {"kind": "thread"}, "p": {"kind": "process"}, "a": {"kind": "async"}}
    made = settings_from({"workers": 5, "processes": 3, "max_coroutines": 9, "pools": pools}).pools
    assert {name: pool.workers for name, pool in made.items()} == {"t": 5, "p": 3, "a": 9}


@pytest.mark.parametrize(
    ("kind", "on_one", "on_eight"), [("cpu", 1, 8), ("io", 8, 64), ("mixed", 3, 24), ("memory", 1, 4)]
)
def test_workers_for_a_kind_of_work_is_the_documented_factor_everywhere(kind, on_one, on_eight):
    assert (workers_for(kind, 1), workers_for(kind, 8)) == (on_one, on_eight)
    pool = settings_from({"pools": {"p": {"kind": "thread", "workers": kind}}}).pools["p"]
    assert pool.workers == workers_for(kind, cores())


def test_an_unknown_kind_of_work_is_named():
    with pytest.raises(ConfigError, match=r"not 'mixd' \(did you mean 'mixed'\?\)"):
        workers_for("mixd", 2)


def test_settings_share_nothing_with_what_they_were_made_from():
    pools = {"p": {"kind": "thread", "workers": 2}}
    settings = settings_from({"pools": pools})
    pools["p"]["workers"] = 99
    pools["q"] = {"kind": "thread"}
    assert {name: pool.workers for name, pool in settings.pools.items()} == {"p": 2}


def test_settings_can_not_be_changed():
    with pytest.raises(AttributeError):
        settings_from({}).workers = 3


def test_importing_the_settings_loads_nothing_heavy():
    heavy = "asyncio concurrent multiprocessing logging networkx rich typer pydantic"
    code = f"import sys, nerv.settings; print([name for name in '{heavy}'.split() if name in sys.modules])"
    assert run_command([sys.executable, "-c", code], REPOSITORY, seconds=30).stdout.strip() == "[]"


def test_a_number_too_long_for_python_to_write_is_refused_all_the_same():
    assert "not <one int too long to show>" in refusal(workers=-(10**5000))
