"""The encoder in C, in a program of its own, against sums that are made here."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import Frame, Label
from tests.support import ROOT, compile_c

DONE, NO_MEMORY, NO_NAME = "0", "1", "2"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program of the encoder."""
    native = ROOT / "pyprof_agent" / "_native"
    parts = ("pprof_encoder", "pprof_locations", "row_lines", "blake2b", "function_table")
    wrapped = "".join(f",--wrap={name}" for name in ("malloc", "calloc", "realloc", "free"))
    return compile_c(
        tmp_path_factory.mktemp("encoder") / "encoder",
        Path(__file__).with_suffix(".c"),
        *[native / f"{name}.c" for name in parts],
        native / "number_index.c",
        flags=[f"-I{native}", f"-Wl{wrapped}", "-Wall", "-Wextra", "-Werror", "-Wshadow"],
    )


@dataclass
class Input:
    """The input of the program; see `read_input` in test_encoder.c."""

    columns: int = 2
    default_column: int = 1
    functions: int = 20
    markers: int = 4
    function_of: list[int] = field(default_factory=lambda: [0])
    nodes: list[tuple[int, int, int, int]] = field(default_factory=lambda: [(0, 0, 0, 0)])
    rows: list[tuple[int, ...]] = field(default_factory=list)
    sets: int = 5
    set_of: list[int] = field(default_factory=lambda: [0])

    def text(self) -> str:
        """All of it as numbers."""
        head = [self.columns, self.default_column, self.functions, len(self.function_of)]
        head += [self.markers, len(self.nodes), len(self.rows), self.sets, len(self.set_of)]
        parts = [head, self.function_of, *self.nodes, *self.rows, self.set_of]
        return "\n".join(" ".join(map(str, part)) for part in parts)

    def stack(self, node: int) -> tuple[Frame, ...]:
        """The frames of a node, leaf first."""
        frames = []
        while node:
            node, function, instruction, line = self.nodes[node]
            which = self.function_of[function]
            frames.append(
                Frame(f"m.f{which}", f"/f{which}.py", which, max(line, 0))
                if function
                else Frame(f"<marker {instruction}>", "", 0, 0)
            )
        return tuple(frames)

    def labels(self, number: int) -> tuple[Label, ...]:
        """The labels of a row's number."""
        which = self.set_of[number]
        both = (Label("thread", f"t{which}"), Label("bytes", which - 1, "b"))
        return both[: which and 1 + which % 2]


def at_random(seed: int) -> Input:
    """A tree of few functions and lines, in which many stacks are equal."""
    dice = random.Random(seed)
    made = Input(columns=dice.randint(1, 4), functions=dice.randint(1, 20))
    made.default_column = dice.randint(0, made.columns)
    made.function_of += [dice.randrange(made.functions) for _ in range(30)]
    made.set_of = [dice.randrange(made.sets) for _ in range(9)]
    lines = dice.randint(1, 5)
    for node in range(1, dice.choice([1, 2, 50, 2000])):
        parent = dice.randrange(max(0, node - dice.randint(1, 60)), node)
        if dice.random() < 0.1:
            made.nodes.append((parent, 0, dice.randrange(made.markers), -1))
        else:
            line = dice.randint(-1, lines)
            made.nodes.append((parent, dice.randint(1, 30), dice.randint(0, 3), line))
    for _ in range(dice.choice([0, 1, 3000])):
        values = [dice.choice([0, 1, 300, -1, 2**40]) for _ in range(made.columns)]
        made.rows.append((dice.randrange(len(made.nodes)), dice.randrange(9), *values))
    dice.shuffle(made.rows)
    return made


def encode(program: Path, given: Input) -> tuple[bytes, str]:
    """What the program writes, and its result."""
    done = subprocess.run([program], input=given.text().encode(), capture_output=True, timeout=60)
    assert done.returncode == 0
    return done.stdout, done.stderr.decode()


@pytest.mark.parametrize("seed", range(25))
def test_bytes_have_the_sum_of_each_stack_and_its_labels(program: Path, seed: int) -> None:
    given = at_random(seed)
    sums: dict[tuple[tuple[Frame, ...], tuple[Label, ...]], tuple[int, ...]] = {}
    for node, labels, *values in given.rows:
        key = (given.stack(node), given.labels(labels))
        before = sums.get(key, (0,) * given.columns)
        sums[key] = tuple(a + b for a, b in zip(before, values, strict=True))
    data, result = encode(program, given)
    assert result == DONE
    profile = decode(data)
    found = {(stack, labels): values for stack, values, labels in profile.samples}
    assert len(found) == len(profile.samples)
    assert found == {key: values for key, values in sums.items() if any(values)}
    assert profile.comments == ("comment 1", "")
    types = [value_type.type for value_type in profile.sample_types]
    assert types == [f"type{column}" for column in range(given.columns)]
    assert profile.default_sample_type == ([*types, ""])[given.default_column]


@pytest.mark.parametrize("callees", [1, 3])
def test_many_nodes_of_one_stack_take_no_longer_than_others(program: Path, callees: int) -> None:
    given = Input(columns=1, functions=1, function_of=[0] * 31)
    for _ in range(50_000 // callees):  # as of an expression that is compiled anew each time
        node = len(given.nodes)
        given.nodes += [(0, 1, node, 1), *((node, 2, 0, line) for line in range(callees))]
        given.rows += [(node + 1 + line, 0, 1) for line in range(callees)]
    data, result = encode(program, given)
    assert result == DONE  # in seconds, not minutes
    found = [values for _, values, _ in decode(data).samples]
    assert found == [(50_000 // callees,)] * callees


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_stacks_and_rows_came_changes_no_byte(program: Path, seed: int) -> None:
    given = at_random(seed + 100)
    dice = random.Random(seed)
    # Callees of one caller change places, and all come after their callers as before.
    order = sorted(
        range(1, len(given.nodes)), key=lambda node: (len(given.stack(node)), dice.random())
    )
    place = {0: 0, **{node: i for i, node in enumerate(order, 1)}}
    other = Input(**vars(given))
    other.nodes = [given.nodes[0]] + [
        (place[given.nodes[node][0]], *given.nodes[node][1:]) for node in order
    ]
    other.rows = [(place[node], *rest) for node, *rest in given.rows]
    dice.shuffle(other.rows)
    assert encode(program, given) == encode(program, other)


@pytest.mark.parametrize(
    "wrong",
    [
        Input(nodes=[(0, 0, 0, 0), (0, 1, 0, 5)], rows=[(1, 0, 1, 1)]),
        Input(nodes=[(0, 0, 0, 0), (0, 0, 4, -1)], rows=[(1, 0, 1, 1)]),
        Input(rows=[(0, 1, 1, 1)]),
    ],
    ids=["function", "marker", "labels"],
)
def test_a_number_without_a_name_is_refused(program: Path, wrong: Input) -> None:
    assert encode(program, wrong) == (b"", NO_NAME)


def test_nothing_is_lost_where_memory_is_refused(program: Path) -> None:
    for seed in (1, 4, 7):
        given = at_random(seed)
        given.nodes, given.rows = given.nodes[:300], [r for r in given.rows if r[0] < 300][:100]
        done = subprocess.run(
            [program, "fail"], input=given.text(), text=True, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
