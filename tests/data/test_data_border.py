"""What is trained is what is asked: prompt and answer meet at the same token everywhere."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hft_ray.config import Divergence, Generation, MultipleChoice
from hft_ray.data import (
    IGNORED,
    Dialogue,
    DialoguePair,
    Message,
    Text,
    TextPair,
    encode,
    encode_answers,
    encode_text,
    split,
)
from hft_ray.data.border import tokenise
from hft_ray.data.chat import render_turns
from hft_ray.evaluation.divergence import DivergenceScorer
from hft_ray.evaluation.generation import GenerationScorer
from hft_ray.evaluation.items import Passage, Prompt, Question
from hft_ray.evaluation.multiple_choice import MultipleChoiceScorer

# How cl100k splits: a quote or bracket joins the word after it, line breaks join what is before.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LINES = [
    "Question: how many?\n\nAnswer: ten apples.\n",
    'He said "Paris" (or "Lima").\n\n\nThen:\n    return it\n',
    "What is the capital of Peru?\n\nThe capital is Lima,\n\n señor.",
] * 4
# The header ends with a space, which tokenizers merge with the answer's first word.
SPACED = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def metaspace(model, trainer, scheme):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator(LINES, trainer(special_tokens=["<unk>", "</s>"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", chat_template=SPACED
    )


@pytest.fixture(scope="module")
def unigram():
    """Unigram that puts a space before every text, as SentencePiece does."""

    def trainer(**more):
        return trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", show_progress=False, **more
        )

    return metaspace(models.Unigram(), trainer, "always")


@pytest.fixture(scope="module")
def metaspace_first():
    """BPE that puts a space at the beginning of a text, but not after special tokens."""

    def trainer(**more):
        return trainers.BpeTrainer(vocab_size=200, show_progress=False, **more)

    return metaspace(models.BPE(unk_token="<unk>"), trainer, "first")


@pytest.fixture
def cl100k(chatml):
    """Byte-level BPE without a BOS, whose EOS is not the end of a turn (as Qwen2.5's base)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", chat_template=chatml.chat_template
    )


BYTES = ("chatml", "llama3", "cl100k")
PIECES = ("llama2", "unigram", "metaspace_first")
every = pytest.mark.parametrize("name", [*BYTES, *PIECES])

known = [" ", "  ", "\n", "\n\n", ":", '"', "(", ",", ".", "Ans", "wer", "ten", "Paris", "ñ"]
texts = st.lists(st.sampled_from(known), max_size=6).map("".join)
prompts = texts.filter(str.strip)
# A tokenizer is made once, and no example changes it.
checked = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def asked(tokenizer, prompt):
    """The tokens that generation starts from."""
    entry = Generation(name="g", kind="generation", data="x")
    return GenerationScorer(entry, [Prompt(prompt, ("x",))], tokenizer, "x").sequences()[0]


def compared(tokenizer, prompt, answer):
    """Tokens of kl and of multiple choice, each with the number of the prompt's."""
    entry = Divergence(name="k", kind="kl", data="x", max_length=10**6)
    (span,) = DivergenceScorer(entry, [Passage(prompt, answer)], tokenizer, "x").spans
    yield span.tokens, span.start
    choices = MultipleChoice(name="m", kind="multiple_choice", data="x")
    question = Question(prompt, (answer, answer + "."), 0)
    scorer = MultipleChoiceScorer(choices, [question], tokenizer, "x")
    tokens, count = scorer.requests[0]
    yield tokens, len(tokens) - count


def trained_from(encoded, first):
    """Check that exactly the tokens from ``first`` on are trained."""
    assert encoded.labels == [IGNORED] * first + encoded.input_ids[first:]


@every
@given(prompt=prompts, answer=texts)
@example(prompt="Answer: ", answer="ten")
@example(prompt="Answer:", answer="  ten")
@example(prompt="Answer:\n\n", answer="ten")
@example(prompt="Answer:\n", answer="\nten")
@example(prompt="Answer:\n    ", answer="ten")
@example(prompt="how many? Ans", answer="wer: ten")
@example(prompt='He said "', answer="Paris")
@checked
def test_a_text_is_trained_and_compared_after_what_is_asked(request, name, prompt, answer):
    tokenizer = request.getfixturevalue(name)
    start = asked(tokenizer, prompt)
    first = len(start)
    one = encode(tokenizer, Text(((prompt, False), (answer, True))), 10**6)
    assert one.input_ids[:first] == start
    trained_from(one, first)
    text = tokenizer.decode(encode_text(tokenizer, prompt + answer))
    assert tokenizer.decode(one.input_ids) == text + tokenizer.eos_token
    if name in BYTES:
        own = split(prompt, answer)[1] + tokenizer.eos_token
        assert tokenizer.decode(one.input_ids[first:]) == own
    pair = encode_answers(tokenizer, TextPair(prompt, answer, answer + "."), 10**6)
    assert pair[0] == one
    assert pair[1].input_ids[:first] == start
    trained_from(pair[1], first)
    if answer.strip() and (prompt[-1].isspace() or answer[0].isspace()):
        for tokens, before in compared(tokenizer, prompt, answer):
            assert [*tokens, tokenizer.eos_token_id] == one.input_ids
            assert before == first


@every
@given(prompt=prompts, answer=texts)
@example(prompt="how many?", answer="ten")
@example(prompt="how many?", answer="\n\nten")
@checked
def test_a_dialogue_is_trained_and_compared_after_what_is_asked(request, name, prompt, answer):
    tokenizer = request.getfixturevalue(name)
    turns = ({"role": "user", "content": prompt},)
    start = asked(tokenizer, turns)
    first = len(start)
    user, said = Message("user", prompt, trained=False), Message("assistant", answer, trained=True)
    one = encode(tokenizer, Dialogue((user, said)), 10**6)
    assert one.input_ids[:first] == start
    trained_from(one, first)
    text = render_turns(tokenizer, (user, said))
    assert tokenizer.decode(one.input_ids) == tokenizer.decode(encode_text(tokenizer, text))
    other = Message("assistant", answer + ".", trained=True)
    pair = encode_answers(tokenizer, DialoguePair((user,), (said,), (other,)), 10**6)
    assert pair[0] == one
    assert pair[1].input_ids[:first] == start
    if answer.strip():
        for tokens, before in compared(tokenizer, turns, answer):
            # The end of the turn, and white space before it, are trained, but not compared.
            assert before == first
            assert tokens[:first] == start
            shown = tokenizer.decode(tokens)
            assert tokenizer.decode(one.input_ids).startswith(shown)
            assert shown.endswith(answer.strip())


@pytest.mark.parametrize("name", BYTES)
def test_every_turn_is_trained_after_what_is_asked(request, name):
    tokenizer = request.getfixturevalue(name)
    contents = ("how many?", "Ten, señor.", "Answer:\n\n", "Paris\n")
    messages = [
        Message(role, content, trained=role == "assistant")
        for role, content in zip(("user", "assistant") * 2, contents, strict=True)
    ]
    one = encode(tokenizer, Dialogue(tuple(messages)), 10**6)
    for turn in (1, 3):
        start = encode_text(tokenizer, render_turns(tokenizer, messages[:turn], header=True))
        assert one.input_ids[: len(start)] == start
        assert one.labels[len(start) - 1] == IGNORED
        assert one.labels[len(start)] != IGNORED


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("A: ", ("A:", " x")),
        ("A:\t\u3000\u00a0", ("A:", "\t\u3000\u00a0x")),
        ("A:\n", ("A:\n", "x")),
        ("A: \n", ("A: \n", "x")),
        ("A:\n  ", ("A:\n", "  x")),
        (" ", ("", " x")),
        ("", ("", "x")),
    ],
)
def test_blanks_go_to_the_answer_and_line_breaks_stay(prompt, parts):
    assert split(prompt, "x") == parts


UNMARKED = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
BARE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize("template", [UNMARKED, BARE])
@pytest.mark.parametrize("empty", ["", " ", "\n"])
@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_a_turn_without_a_token_leaves_later_turns_theirs(request, name, empty, template):
    tokenizer = request.getfixturevalue(name)
    tokenizer.chat_template = template
    contents = ("Sing.", empty, "Now sing.", "La la.", "Again.", empty, "And?", "Lo lo.")
    turns = [
        Message(role, content, trained=role == "assistant")
        for role, content in zip(("user", "assistant") * 4, contents, strict=True)
    ]
    one = encode(tokenizer, Dialogue(tuple(turns)), 512)
    kept = [label for label in one.labels if label != IGNORED]
    text = tokenizer.decode(kept)
    assert "La la." in text
    assert "Lo lo." in text
    assert "sing" not in text
    assert not one.ended


pieces = st.lists(st.sampled_from([*known, "<|im_start|>", "<|im_end|>", "</s>"]), max_size=10)


@every
@given(before=pieces.map("".join), after=texts)
@checked
def test_before_a_border_stand_the_tokens_of_the_text_before_it(request, name, before, after):
    """Special tokens included, after which alone is tokenised again."""
    tokenizer = request.getfixturevalue(name)
    made = tokenise(tokenizer, before + after, [len(before)])
    alone = tokenizer(before, add_special_tokens=False, return_offsets_mapping=True)
    count = made.borders[0]
    assert made.ids[:count] == alone["input_ids"]
    assert made.offsets[:count] == alone["offset_mapping"]
