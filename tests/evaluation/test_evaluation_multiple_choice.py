import random

import pytest
import torch
from evaluation_models import make_pair, sentence, write_jsonl

from hft_ray.config import EvaluationSection
from hft_ray.evaluation import Suite
from hft_ray.evaluation.items import load_questions
from hft_ray.evaluation.multiple_choice import MultipleChoiceScorer
from hft_ray.evaluation.prompting import encode_answered
from hft_ray.ranks import Ranks


def records():
    rng = random.Random(7)
    made = []
    for _ in range(12):
        choices = [sentence(rng, 1, 6) for _ in range(rng.randint(2, 5))]
        question = {"question": sentence(rng, 1, 12), "choices": choices}
        made.append({**question, "answer": rng.randrange(len(choices))})
    return made


def section(data, **more):
    entry = {"name": "mc", "kind": "multiple_choice", "data": data, **more}
    return EvaluationSection.model_validate({"general": [entry]})


def by_hand(model, tokenizer, question, choice):
    """One forward pass per choice, one term per token, in float64."""
    context = tokenizer(question).input_ids
    whole = tokenizer(f"{question} {choice}").input_ids
    assert whole[: len(context)] == context
    with torch.no_grad():
        logprobs = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    places = range(len(context), len(whole))
    return sum(float(logprobs[place - 1, whole[place]]) for place in places)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("normalize", [False, True])
def test_equals_a_computation_one_choice_at_a_time(kind, normalize, tmp_path):
    model, tokenizer = make_pair(kind)
    data = write_jsonl(tmp_path / "q.jsonl", records())
    one = section(data, normalize=normalize)
    evaluation = one.general[0]
    questions = load_questions(evaluation, "evaluation.general.0")
    with torch.no_grad():
        scorer = MultipleChoiceScorer(evaluation, questions, tokenizer, "x")
        logliks = scorer.logliks(model, 5, Ranks())
    right, expected = [], []
    for record in records():
        values = [
            by_hand(model, tokenizer, record["question"], choice) for choice in record["choices"]
        ]
        expected += values
        if normalize:
            pairs = zip(values, record["choices"], strict=True)
            values = [value / len(choice) for value, choice in pairs]
        right.append(float(values.index(max(values)) == record["answer"]))
    assert logliks == pytest.approx(expected, rel=1e-5)
    score = Suite(one, tokenizer).score(model).general["mc"]
    assert score.items == tuple(right)
    assert 0 < score.value < 1
    assert (score.n, score.metric, score.worst) == (12, "accuracy", 0.0)


def test_normalizing_changes_the_answer_as_it_should(tmp_path):
    """Of a short and a long choice the long one has less likelihood, but more per character."""
    model, tokenizer = make_pair("llama")
    choices = ["no", "in winter or in summer ever sail"]
    record = {"question": "that", "choices": choices, "answer": 1}
    data = write_jsonl(tmp_path / "q.jsonl", [record])
    short, long = (by_hand(model, tokenizer, "that", choice) for choice in choices)
    assert short > long and short / 2 < long / len(choices[1])
    assert Suite(section(data), tokenizer).score(model).general["mc"].value == 0
    assert Suite(section(data, normalize=True), tokenizer).score(model).general["mc"].value == 1


def test_white_space_at_the_end_of_the_question_belongs_to_the_choice():
    _, tokenizer = make_pair("llama")
    tokens, before = encode_answered(tokenizer, "capital of ", "France", "x")
    assert tokens == tokenizer("capital of France").input_ids
    assert tokenizer.decode(tokens[before:]) == " France"


def test_a_line_break_at_the_end_of_the_question_is_its_own():
    """Other than in lm-eval: training and generation have it in the prompt."""
    _, tokenizer = make_pair("llama")
    tokens, before = encode_answered(tokenizer, "capital of\n", "France", "x")
    assert tokens[:before] == tokenizer("capital of\n").input_ids
    assert tokenizer.decode(tokens[before:]) == "France"


def test_in_a_dialogue_the_template_writes_the_choice():
    _, tokenizer = make_pair("llama")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'].strip() }}</s>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    turns = ({"role": "user", "content": "gold"},)
    tokens, before = encode_answered(tokenizer, turns, " Au ", "x")
    assert tokenizer.decode(tokens[:before]) == "<s>[user] gold</s>[assistant]"
    assert tokenizer.decode(tokens[before:]) == " Au"


def test_what_is_too_long_is_cut_from_the_left(tmp_path):
    model, tokenizer = make_pair("gpt2")
    question = sentence(random.Random(4), 120, 120)
    record = {"question": question, "choices": ["Paris", "Rome in Italy"], "answer": 0}
    entry = section(write_jsonl(tmp_path / "q.jsonl", [record])).general[0]
    scorer = MultipleChoiceScorer(entry, load_questions(entry, "x"), tokenizer, "x")
    with torch.no_grad():
        found = scorer.logliks(model, 2, Ranks())
    for choice, value in zip(record["choices"], found, strict=True):
        whole, before = encode_answered(tokenizer, question, choice, "x")
        count = len(whole) - before
        kept = whole[-97:]  # 96 positions, and the last token is only a target
        with torch.no_grad():
            logprobs = model(torch.tensor([kept[:-1]])).logits[0].double().log_softmax(-1)
        terms = [float(logprobs[i - 1, kept[i]]) for i in range(97 - count, 97)]
        assert value == pytest.approx(sum(terms), rel=1e-5)


def test_a_model_of_nan_answers_nothing(tmp_path):
    model, tokenizer = make_pair("llama")
    questions = [{**record, "answer": 0} for record in records()]
    data = write_jsonl(tmp_path / "q.jsonl", questions)
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    assert Suite(section(data), tokenizer).score(model).general["mc"].value == 0.0
