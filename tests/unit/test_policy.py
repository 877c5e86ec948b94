"""The policy: what it allows, what it refuses to mean, and that narrowing never widens."""

import copy
import dataclasses
import itertools
import json
import os
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_steps.checks import SIDE_EFFECT_LEVELS
from otel_steps.errors import DefinitionError
from otel_steps.runtime.allowlist import AllowList
from otel_steps.runtime.capabilities import capability_requirements
from otel_steps.runtime.policy import CapabilityPolicy, narrow, stage_policy

FULL = CapabilityPolicy(
    tools=["read", "list_*"],
    capabilities={"fs": ["read", "list_*"], "net": [], "*": ["describe"]},
    workspace_roots=["/ws/a", "/ws/b"],
    side_effect_level="read_only",
    recursion_limit=3,
)

# --- strategies: small alphabets, so that names, globs and paths meet often; the marks of the entry syntax are in them

parts = [*"ab*?_()[]&|.", "ab", "[ab]", "[!a]", " & ", " | "]


def drawn_once(make):
    """600 values to sample from: drawing each one part by part in every example would take most of the time."""
    source = random.Random(6)
    return list(itertools.islice(filter(None, (make(source) for _ in itertools.count())), 600))


def an_entry(source):
    entry = "".join(source.choices(parts, k=source.randint(1, 5)))
    try:
        CapabilityPolicy(tools=[entry])
    except DefinitionError:
        return None
    return entry


def a_path(source):
    segments = source.choices(["a", "b", "aa", "..", ".", "", "a "], k=source.randint(0, 5))
    return source.choice(["/", "//", "", "./"]) + "/".join(segments)


def a_name(source):
    return "".join(source.choices("ab_ &|().", k=source.randint(1, 6)))


written = [
    "read",
    "edit",
    "read_file",
    "a",
    "ab",
    "bb",
    "*",
    "read_*",
    "*_file",
    "a*",
    "*b",
    "a* & *b",
    "(a* | b*) & *b",
]
random_entries = drawn_once(an_entry)
random_paths = drawn_once(a_path)


def some(source, of, most):
    return source.choices(of, k=source.randint(1, most))


def some_entries(source, most=5):
    return [entry for pool in some(source, [written, random_entries], most) for entry in some(source, pool, 1)]


def a_capability_map(source):
    return {name: some_entries(source) * source.randint(0, 1) for name in some(source, ["fs", "net", "db", "*"], 4)}


entries = st.sampled_from(written) | st.sampled_from(random_entries)
entry_lists = st.just([]) | st.sampled_from(drawn_once(some_entries))
named = ["", "read", "edit", "read_file", "a", "ab", "bb", "aab"]
names = st.sampled_from(named) | st.sampled_from(drawn_once(a_name)) | entries
capability_names = st.sampled_from(["fs", "net", "db"])
capability_maps = st.just({}) | st.sampled_from(drawn_once(a_capability_map))
requirements = st.one_of(
    capability_names,
    st.builds(lambda c, mark, o: f"{c}{mark}{o}", capability_names, st.sampled_from(".:"), names),
    st.sampled_from(["*", "*.read", "f*.read", "fs.*", "fs:*", ".", ""]),
)
paths = st.just("") | st.sampled_from(random_paths)
roots = st.just([]) | st.sampled_from(drawn_once(lambda source: some(source, random_paths, 4)))
levels = st.sampled_from(SIDE_EFFECT_LEVELS)
policies = st.builds(
    CapabilityPolicy,
    tools=st.none() | entry_lists,
    capabilities=st.none() | capability_maps,
    workspace_roots=st.none() | roots,
    side_effect_level=st.none() | levels,
    recursion_limit=st.none() | st.integers(0, 5),
)
optional_policies = st.none() | policies
thorough = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))


def answers(policy, tool, level, needed, path, depth):
    """What a policy says on each dimension by itself and on a whole tool."""
    if policy is None:
        return (True,) * 6
    return (
        policy.check_tool(tool) is None,
        policy.tools is not None or policy.check_tool("x", side_effect_level=level) is None,
        policy.capabilities is None or policy.capabilities.allows(needed),
        policy.allows_path(path),
        policy.allows_depth(depth),
        policy.check_tool(tool, side_effect_level=level, capabilities=[needed]) is None,
    )


question = st.tuples(names, levels, requirements, paths, st.integers(0, 6))


@thorough
@given(optional_policies, optional_policies, question)
def test_narrowing_allows_exactly_what_both_allow(parent, child, asked):
    both = narrow(parent, child)
    expected = [a and b for a, b in zip(answers(parent, *asked), answers(child, *asked), strict=True)]
    got = list(answers(both, *asked))
    if both is not None and both.tools is not None:
        del expected[1], got[1]  # judged with the tool in the last answer
    assert got == expected


@thorough
@given(entry_lists, entry_lists, names)
def test_intersected_lists_allow_exactly_what_both_allow(one, other, name):
    a, b = AllowList(one), AllowList(other)
    both = a.intersection(b)
    for asked in (name, *named, *one, *other):
        assert both.allows(asked) == (a.allows(asked) and b.allows(asked))


@thorough
@given(capability_maps, capability_maps, requirements)
def test_narrowed_capabilities_allow_exactly_what_both_allow(one, other, needed):
    parent, child = CapabilityPolicy(capabilities=one), CapabilityPolicy(capabilities=other)
    both = narrow(parent, child)
    for asked in (needed, *(f"{name}.{operation}" for name in ("fs", "net", "db") for operation in named)):
        expected = all(policy.check_tool("t", capabilities=[asked]) is None for policy in (parent, child))
        assert (both.check_tool("t", capabilities=[asked]) is None) == expected


@thorough
@given(roots, roots, paths)
def test_narrowed_roots_hold_exactly_what_both_hold(one, other, path):
    parent, child = CapabilityPolicy(workspace_roots=one), CapabilityPolicy(workspace_roots=other)
    both = narrow(parent, child)
    for asked in (path, *one, *other):
        assert both.allows_path(asked) == (parent.allows_path(asked) and child.allows_path(asked))
    assert len(both.workspace_roots) <= len(one) + len(other)


@thorough
@given(levels, levels, levels)
def test_narrowed_level_allows_exactly_what_both_allow(parent_level, child_level, needed):
    parent, child = (CapabilityPolicy(side_effect_level=level) for level in (parent_level, child_level))
    both = narrow(parent, child)
    expected = all(p.check_tool("t", side_effect_level=needed) is None for p in (parent, child))
    assert (both.check_tool("t", side_effect_level=needed) is None) == expected


@thorough
@given(optional_policies, optional_policies, optional_policies, question)
def test_narrowing_in_any_grouping_and_order_allows_the_same(a, b, c, asked):
    left = narrow(narrow(a, b), c)
    for other in (narrow(a, narrow(b, c)), narrow(c, narrow(b, a))):
        assert answers(other, *asked) == answers(left, *asked)


@thorough
@given(optional_policies, optional_policies)
def test_narrowing_again_by_the_same_policy_changes_nothing(parent, child):
    assert narrow(child, child) == child
    once = narrow(parent, child)
    assert narrow(once, once) == once
    twice = narrow(once, child)
    assert narrow(twice, child) == twice  # so that recursion through the same scopes does not let a policy grow


@thorough
@given(policies, policies, names)
def test_every_copy_of_a_narrowed_policy_is_the_same_policy(parent, child, name):
    policy = narrow(parent, child)
    through_json = CapabilityPolicy.from_dict(json.loads(json.dumps(policy.to_dict())))
    copies = [through_json, pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy), dataclasses.replace(policy)]
    for other in copies:
        assert other == policy
        assert hash(other) == hash(policy)
        assert (other.check_tool(name) is None) == (policy.check_tool(name) is None)


# --- the vectors


def test_stage_list_meets_the_ambient_list_and_leaves_it_as_it_was():
    ambient = CapabilityPolicy(tools=["read"])
    inside = narrow(ambient, stage_policy(["read", "edit"], None))
    assert inside.tools == ("read",)
    assert inside.check_tool("read") is None
    assert inside.check_tool("edit") is not None
    assert ambient.tools == ("read",)


@pytest.mark.parametrize(("ambient", "stage"), [(["read"], ["edit"]), (None, []), (["read"], []), ([], ["read"])])
def test_nothing_in_common_denies_every_tool(ambient, stage):
    inside = narrow(CapabilityPolicy(tools=ambient), stage_policy(stage, None))
    assert inside.tools == ()
    assert [inside.check_tool(name) for name in ("read", "edit", "")] == ["the policy's tools allow none"] * 3


def test_wider_level_of_a_stage_is_held_to_the_ambient_one_and_other_limits_are_kept():
    assert narrow(FULL, stage_policy(None, "network")) == FULL


def test_stage_that_says_nothing_is_no_policy():
    assert stage_policy(None, None) is None
    assert narrow(FULL, stage_policy(None, None)) is FULL
    assert narrow(None, None) is None
    assert narrow(None, FULL) is FULL


def test_each_stage_runs_only_its_own_tool():
    stages = {"research": stage_policy(["read"], None), "edit_phase": stage_policy(["edit"], None)}
    allowed = {stage: [t for t in ("read", "edit") if p.check_tool(t) is None] for stage, p in stages.items()}
    assert allowed == {"research": ["read"], "edit_phase": ["edit"]}


# --- tools


def test_globs_meet_in_an_entry_that_reads_back_as_itself():
    inside = narrow(CapabilityPolicy(tools=["read_*", "grep"]), CapabilityPolicy(tools=["*_file", "g*", "stat"]))
    assert inside.tools == ("grep", "read_* & (*_file | g*)")
    again = CapabilityPolicy(tools=inside.tools)
    for policy in (inside, again):
        asked = ("grep", "stat", "read_file", "read_dir", "write_file", "g")
        assert [name for name in asked if policy.check_tool(name) is None] == ["grep", "read_file"]


def test_globs_are_case_sensitive_and_names_with_marks_are_names():
    policy = CapabilityPolicy(tools=["Read*", "Search & Replace", "a | b", "mcp__[fg]s__?"])
    for name in ("Read file", "Search & Replace", "a | b", "mcp__fs__x", "Read\nfile"):
        assert policy.check_tool(name) is None
    for name in ("read file", "Search", "Replace", "a", "mcp__xs__x", "mcp__fs__xy", " Read"):
        assert policy.check_tool(name) is not None


def test_parentheses_group_only_alternatives():
    policy = CapabilityPolicy(tools=["(a*)", "(b* | c*) & *z"])
    asked = ("(a)", "a", "bz", "cz", "(bz", "b")
    assert [name for name in asked if policy.check_tool(name) is None] == ["(a)", "bz", "cz"]


def test_joined_globs_met_again_are_written_once():
    child = CapabilityPolicy(tools=["d*", "*e & *f"])
    once = narrow(CapabilityPolicy(tools=["a*", "*b & *c"]), child)
    assert len(once.tools) == 4
    assert narrow(once, child) == once


def test_nested_globs_grow_by_what_is_said_not_by_how_often_or_in_what_product():
    policy = None
    for depth in range(40):
        child = CapabilityPolicy(tools=[f"*{depth % 8}{letter}*" for letter in "abcdefgh"])
        policy = narrow(policy, child)
    assert len(policy.tools) == 1
    assert len(policy.tools[0]) < 1000
    assert policy.check_tool("".join(f"{digit}a" for digit in range(8))) is None
    assert policy.check_tool("".join(f"{digit}a" for digit in range(7))) is not None


def test_hostile_name_is_judged_in_bounded_time():
    policy = CapabilityPolicy(tools=["*a*a*a*a*a*a*a*a*b"])
    assert policy.check_tool("a" * 5000) is not None


def test_refusal_names_the_dimension_and_stays_short():
    many = CapabilityPolicy(tools=[f"tool_{n}_{'x' * 400}" for n in range(50)])
    reason = many.check_tool("other")
    assert reason.startswith("the policy's tools allow only `tool_0_")
    assert reason.endswith("` and 45 more")
    assert len(reason) < 1500


# --- side effects


def test_tool_above_the_level_is_refused_and_one_that_declares_none_is_not_judged():
    policy = CapabilityPolicy(side_effect_level="workspace_write")
    verdicts = [policy.check_tool("t", side_effect_level=level) for level in SIDE_EFFECT_LEVELS]
    assert verdicts[:3] == [None] * 3
    assert verdicts[3:] == [
        "the policy's side_effect_level is workspace_write, the tool needs process_exec",
        "the policy's side_effect_level is workspace_write, the tool needs network",
    ]
    assert policy.check_tool("t") is None


def test_unknown_level_of_a_tool_is_refused_by_every_policy():
    for policy in (CapabilityPolicy(), CapabilityPolicy(side_effect_level="network")):
        assert "side_effect_level `sudo`" in policy.check_tool("t", side_effect_level="sudo")


# --- capabilities


@pytest.mark.parametrize(
    ("needed", "allowed"),
    [
        ("fs.read", True), ("fs:read", True), ("fs.list_dir", True), ("fs.write", False), ("fs", False),
        ("fs.*", False),
        ("fs.describe", False), ("net.get", False), ("net", False), ("db.describe", True), ("db.write", False),
        ("db", False), ("*.describe", False), ("", False),
    ],
)  # fmt: skip
def test_capability_operations(needed, allowed):
    assert (FULL.check_tool("read", capabilities=[needed]) is None) == allowed


def test_bare_capability_needs_every_operation():
    everything = CapabilityPolicy(capabilities={"fs": ["*"]})
    for needed in ("fs", "fs.*", "fs:anything", "fs.a.b"):
        assert everything.check_tool("t", capabilities=[needed]) is None
    assert everything.check_tool("t", capabilities=["net"]) == "the policy's capabilities do not include `net`"
    assert everything.check_tool("t") is None
    assert everything.check_tool("t", capabilities="fs.read") is None


def test_only_the_glob_that_allows_everything_covers_a_bare_capability():
    for operations, allowed in ((["*"], True), (["a*", "*"], True), (["* & a*"], False), (["[!a]*", "a*"], False)):
        policy = CapabilityPolicy(capabilities={"fs": operations})
        assert (policy.check_tool("t", capabilities=["fs"]) is None) == allowed


def test_glob_for_a_capability_is_no_requirement():
    everything = CapabilityPolicy(capabilities={"*": ["*"], "fs": ["read"]})
    assert everything.check_tool("t", capabilities=["net"]) is None
    for needed in ("*", "*.read", "f*.read", "f*"):
        assert everything.check_tool("t", capabilities=[needed]) is not None


def test_no_capabilities_at_all_is_not_unrestricted():
    assert CapabilityPolicy(capabilities={}).check_tool("t", capabilities=["fs.read"]) is not None
    assert CapabilityPolicy().check_tool("t", capabilities=["fs.read"]) is None
    assert narrow(CapabilityPolicy(capabilities={}), FULL).capabilities == {}


def test_requirements_are_written_as_string_list_or_dict():
    assert capability_requirements(None) == ()
    assert capability_requirements("fs.read") == ("fs.read",)
    assert capability_requirements(["fs", "net:get"]) == ("fs", "net:get")
    assert capability_requirements({"fs": ["read", "*"], "net": []}) == ("fs.read", "fs.*")


@pytest.mark.parametrize("wrong", [3, [1], [""], ["*"], ["f*.read"], ["fs.re*"], [".read"], {"fs": "read"}, {1: [2]}])
def test_wrong_requirements_are_definition_errors(wrong):
    with pytest.raises(DefinitionError) as caught:
        capability_requirements(wrong)
    assert caught.value.field == "capabilities"


# --- paths


def test_paths_are_judged_by_their_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = CapabilityPolicy(workspace_roots=["/ws/a", Path("src")])
    inside = ["/ws/a", "/ws/a/", "/ws/a/x", "/ws/b/../a/x", "//ws/a/x", "src", "./src/x", tmp_path / "src" / "x"]
    outside = ["/ws/ab", "/ws", "/ws/a/../b", "/", "", "src/../x", "~", "~root/x", "src/\0x", "../src"]
    assert [path for path in inside if not policy.allows_path(path)] == []
    assert [path for path in outside if policy.allows_path(path)] == []


def test_path_that_somebody_may_expand_is_refused_even_where_all_is_allowed_below_here():
    policy = CapabilityPolicy(workspace_roots=["."])
    assert policy.allows_path("./~/x")
    for path in ("~", "~/x", "~root/x"):
        assert not policy.allows_path(path)


def test_relative_roots_stay_where_they_were_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = CapabilityPolicy(workspace_roots=["."])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert policy.workspace_roots == (str(tmp_path),)
    assert policy.allows_path("x")
    assert policy.allows_path("../x")
    assert not policy.allows_path("../../x")


def test_relative_path_from_a_folder_that_is_gone_is_refused(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    policy = CapabilityPolicy(workspace_roots=["/"])
    assert not policy.allows_path("x")
    assert policy.allows_path("/x")


def test_the_disk_is_never_asked(monkeypatch):
    policy = CapabilityPolicy(workspace_roots=["/ws"])

    def asked(*_args, **_kwargs):
        raise AssertionError("the disk was asked")

    for name in ("stat", "lstat", "readlink", "listdir", "open"):
        monkeypatch.setattr(os, name, asked)
    assert policy.allows_path("/ws/x")
    assert narrow(policy, CapabilityPolicy(workspace_roots=["/ws/x"])).workspace_roots == ("/ws/x",)


def test_no_roots_is_not_unrestricted():
    assert not CapabilityPolicy(workspace_roots=[]).allows_path("/")
    assert CapabilityPolicy().allows_path("/")
    apart = narrow(CapabilityPolicy(workspace_roots=["/a"]), CapabilityPolicy(workspace_roots=["/b"]))
    assert apart.workspace_roots == ()


# --- depth


def test_depth_is_used_up_by_each_step_and_never_regained():
    policy = CapabilityPolicy(recursion_limit=2)
    assert [policy.allows_depth(depth) for depth in (0, 1, 2, 3)] == [True, True, True, False]
    inside = policy.descended()
    assert inside.recursion_limit == 1
    assert narrow(inside, CapabilityPolicy(recursion_limit=9)).recursion_limit == 1
    last = inside.descended()
    assert not last.allows_depth(1)
    assert last.descended().recursion_limit == 0
    unlimited = CapabilityPolicy(tools=["a"])
    assert unlimited.descended() is unlimited


# --- construction


def test_what_is_given_is_frozen():
    tools, operations = ["read"], {"fs": ["read"]}
    policy = CapabilityPolicy(tools=tools, capabilities=operations)
    tools.append("edit")
    operations["fs"].append("write")
    operations["net"] = ["get"]
    assert policy == CapabilityPolicy(tools=("read",), capabilities={"fs": ("read",)})
    assert policy.capabilities == {"fs": ("read",)}
    assert policy.capabilities["fs"] == ("read",)
    assert {policy: 1}[CapabilityPolicy(tools={"read"}, capabilities={"fs": {"read"}})] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.tools = None
    with pytest.raises(TypeError):
        policy.capabilities["net"] = ("get",)


def test_replacing_one_dimension_keeps_the_others():
    narrowed = narrow(CapabilityPolicy(tools=["a*"]), CapabilityPolicy(tools=["*b"]))
    wider = dataclasses.replace(narrowed, recursion_limit=1)
    assert wider.tools == narrowed.tools
    assert wider.check_tool("ac") is not None


@pytest.mark.parametrize("field", ["tools", "capabilities", "workspace_roots"])
def test_nothing_and_everything_are_two_states_on_the_wire(field):
    empty = {} if field == "capabilities" else []
    nothing, everything = CapabilityPolicy(**{field: empty}), CapabilityPolicy()
    assert nothing != everything
    assert nothing.to_dict()[field] == empty
    assert everything.to_dict()[field] is None
    assert CapabilityPolicy.from_dict(nothing.to_dict()) == nothing
    assert CapabilityPolicy.from_dict({}) == everything


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", "read"), ("tools", {"read": 1}), ("tools", [1]), ("tools", [""]), ("tools", [None]), ("tools", True),
        ("tools", ["a* & "]), ("tools", ["a* |"]), ("tools", ["& a*"]), ("tools", ["a* | & | b"]),
        ("tools", ["(a* | )"]),
        ("capabilities", ["fs"]), ("capabilities", {"fs": "read"}), ("capabilities", {"fs": None}),
        ("capabilities", {"fs.read": ["*"]}), ("capabilities", {"fs:read": ["*"]}), ("capabilities", {"f*": ["read"]}),
        ("capabilities", {"": ["read"]}), ("capabilities", {1: ["read"]}), ("capabilities", {"fs": [1]}),
        ("workspace_roots", "/ws"), ("workspace_roots", Path("/ws")), ("workspace_roots", [1]),
        ("workspace_roots", [""]),
        ("workspace_roots", [b"/ws"]), ("workspace_roots", ["~/ws"]), ("workspace_roots", ["/w\0s"]),
        ("side_effect_level", "sudo"), ("side_effect_level", "READ_ONLY"), ("side_effect_level", ""),
        ("side_effect_level", 1), ("side_effect_level", ["none"]),
        ("recursion_limit", -1), ("recursion_limit", True), ("recursion_limit", 1.0), ("recursion_limit", "1"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_definition_errors_that_say_what_to_write(field, value):
    for make in (lambda: CapabilityPolicy(**{field: value}), lambda: CapabilityPolicy.from_dict({field: value})):
        with pytest.raises(DefinitionError) as caught:
            make()
        assert caught.value.field.startswith(field)
        assert caught.value.remedy
        assert caught.value.remedy in str(caught.value)


@pytest.mark.parametrize("wrong", [{"tool": ["read"]}, {1: 2}, ["tools"], None, "tools"])
def test_unknown_key_or_shape_never_reads_as_unrestricted(wrong):
    with pytest.raises(DefinitionError):
        CapabilityPolicy.from_dict(wrong)


@pytest.mark.parametrize(("tools", "level"), [("read", None), ([1], None), ((1,), None), (None, "sudo"), (["a"], "")])
def test_wrong_stage_limits_are_definition_errors(tools, level):
    with pytest.raises(DefinitionError) as caught:
        stage_policy(tools, level)
    assert caught.value.field in {"allowed_tools", "side_effect_level"}


def test_unknown_keyword_and_positional_arguments_are_type_errors():
    with pytest.raises(TypeError):
        CapabilityPolicy(tool=["read"])
    with pytest.raises(TypeError):
        CapabilityPolicy(["read"])


def test_entering_a_stage_again_makes_nothing_new():
    first = narrow(FULL, stage_policy(("read",), "none"))
    assert narrow(FULL, stage_policy(("read",), "none")) is first


def test_the_parts_of_a_policy_cross_processes_too():
    for part in (FULL.tools, FULL.capabilities):
        again = pickle.loads(pickle.dumps(part))
        assert again == part
        assert hash(again) == hash(part)
        assert repr(again) == repr(part)
