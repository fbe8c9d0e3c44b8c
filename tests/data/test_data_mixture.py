"""Several training sets as one, and random subsets of records."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config import ConfigError, Data
from hft_ray.data import joined, prepare, read_records, share_of, weighted


@pytest.fixture
def sets(llama3, write_jsonl, tmp_path):
    """Sets of 9 and of 4 examples whose lengths tell them apart."""

    def make(name, count, word):
        records = [{"prompt": f"{word} {i}:", "answer": " ten" * (i + 1)} for i in range(count)]
        path = write_jsonl(records, name)
        return prepare(Data(train=str(path)), llama3, tmp_path / "cache")

    return [make("one.jsonl", 9, "one"), make("other.jsonl", 4, "other")]


def test_joined_sets_have_their_sequences_one_after_another(sets):
    one, other = sets
    mixture = joined([(one, np.arange(9)), (other, np.array([3, 0]))])
    assert len(mixture) == 11
    for index, (of, number) in enumerate([*((one, i) for i in range(9)), (other, 3), (other, 0)]):
        for key, array in of[number].items():
            assert mixture[index][key].tolist() == array.tolist()
        assert mixture.answer_tokens[index] == of.answer_tokens[number]
    assert joined([(one, np.arange(9))]) is one
    swapped = joined([(one, np.arange(9)), (other, np.array([0, 3]))])
    assert mixture.identity != swapped.identity


@pytest.mark.parametrize(
    ("n", "share", "count"), [(50, 0.1, 5), (50, 0, 0), (50, 1, 50), (3, 0.01, 1)]
)
def test_a_share_is_a_random_subset(n, share, count):
    taken = share_of(n, share, seed=0, number=1)
    assert len(set(taken.tolist())) == len(taken) == count
    assert taken.tolist() == share_of(n, share, seed=0, number=1).tolist()
    if 0 < count < n and n > 3:
        others = [share_of(n, share, seed, number) for seed, number in ((1, 1), (0, 2))]
        assert all(taken.tolist() != other.tolist() for other in others)


def test_weights_are_shares_of_the_examples(sets):
    mixture = weighted(sets, [1, 3], length=30, seed=0)
    # 7.5 and 22.5: equal remainders, so the first is rounded up.
    assert np.bincount(mixture.members).tolist() == [8, 22]
    for number, each in enumerate(sets):
        taken = mixture.indices[mixture.members == number]
        counts = np.bincount(taken, minlength=len(each))
        assert counts.max() - counts.min() <= 1


@dataclass(frozen=True)
class Sized:
    """A set of which only the length counts."""

    n: int
    identity: str = "sized"

    def __len__(self):
        return self.n


SIZED = st.lists(st.tuples(st.integers(1, 12), st.floats(0.05, 20)), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(parts=SIZED, length=st.integers(1, 120), seed=st.integers(0, 99))
def test_a_mixture_takes_nothing_twice_before_all_and_keeps_its_shares(parts, length, seed):
    sets, weights = [Sized(n) for n, _ in parts], [weight for _, weight in parts]
    mixture = weighted(sets, weights, length, seed)
    assert len(mixture) == length
    for number, (n, weight) in enumerate(parts):
        own = mixture.indices[mixture.members == number]
        for start in range(0, len(own), n):
            one_pass = own[start : start + n].tolist()
            assert len(set(one_pass)) == len(one_pass)
        share = len(own) / length
        assert abs(share * length - weight / sum(weights) * length) < 1 + 1e-9
        taken = np.cumsum(mixture.members == number)
        apart = np.abs(taken - share * np.arange(1, length + 1))
        assert apart.max() <= max(1, len(sets) - 1) + 1e-9
    again = weighted(sets, weights, length, seed)
    assert again.members.tolist() == mixture.members.tolist()
    assert again.identity == mixture.identity


def test_the_places_of_a_mixture_follow_no_pattern():
    """Halves that alternated would give one of two ranks all of one set."""
    members = weighted([Sized(5), Sized(5)], [1, 1], 200, seed=0).members
    assert 0.3 < members[::2].mean() < 0.7
    assert members.tolist() != weighted([Sized(5), Sized(5)], [1, 1], 200, seed=1).members.tolist()


def test_a_draw_is_a_random_subset_of_the_records(llama3, write_jsonl, tmp_path):
    records = [{"prompt": f"number {i}:", "answer": " ten" * (i + 1)} for i in range(20)]
    path = str(write_jsonl(records, "few.jsonl"))

    def lengths(**given):
        found = prepare(Data(train=path, limit=4, **given), llama3, tmp_path / "cache")
        return found.answer_tokens.tolist()

    first, drawn = lengths(), lengths(subset_seed=0)
    assert len(drawn) == 4
    assert drawn != first
    assert drawn == lengths(subset_seed=0)
    assert drawn != lengths(subset_seed=1)


def test_a_bad_record_of_a_draw_is_told_with_its_line(llama3, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "a"}) for _ in range(9)) + "\n")
    with pytest.raises(ConfigError) as caught:
        prepare(
            Data(train=str(path), limit=1, subset_seed=3, format="prompt_answer"), llama3, tmp_path
        )
    (problem,) = caught.value.problems
    (line,) = [int(part) for part in problem.path.split(":")[-1:]]
    order = np.random.Generator(np.random.PCG64(3)).permutation(9)
    assert line == order[0] + 1


def test_a_subset_of_a_list_keeps_the_numbers_of_its_records(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"text": str(i)} for i in range(5)]))
    records = read_records(str(path), path="data.train", split="train", limit=None)
    subset = records.subset([1, 4])
    assert [each["text"] for each in subset] == ["1", "4"]
    assert subset.where(1).endswith("list.json, record 5")
