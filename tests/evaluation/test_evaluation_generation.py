import random

import pytest
import torch
from evaluation_models import greedy, make_pair, sentence, write_jsonl

from hft_ray.config import ConfigError, EvaluationSection
from hft_ray.evaluation import Suite
from hft_ray.evaluation.generation import GenerationScorer
from hft_ray.evaluation.items import load_prompts
from hft_ray.evaluation.prompting import encode_prompt
from hft_ray.ranks import Ranks

COUNT = 8


def evaluation(folder, prompts, answers=None, **more):
    answers = answers or ["x"] * len(prompts)
    records = [
        {"prompt": prompt, "answer": answer}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    entry = {"name": "gen", "kind": "generation", "max_new_tokens": COUNT, **more}
    entry["data"] = write_jsonl(folder / "p.jsonl", records)
    return EvaluationSection.model_validate({"task": [entry]})


def continuations(section, model, tokenizer, batch_size=4):
    entry = section.task[0]
    scorer = GenerationScorer(entry, load_prompts(entry, "x"), tokenizer, "x")
    return scorer.continuations(model, batch_size, Ranks())


def prompts(count=11):
    rng = random.Random(9)
    return [sentence(rng, 1, 14) for _ in range(count)]


def reference(model, tokenizer, prompt, **more):
    return tokenizer.decode(greedy(model, tokenizer(prompt).input_ids, COUNT, **more))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_equals_unbatched_greedy_decoding(kind, tmp_path):
    model, tokenizer = make_pair(kind)
    expected = [reference(model, tokenizer, prompt) for prompt in prompts()]
    assert len(set(expected)) > 5
    section = evaluation(tmp_path, prompts(), stop=[])
    for batch_size in (1, 3, 16):
        assert continuations(section, model, tokenizer, batch_size) == expected


def test_exact_match_after_strip(tmp_path):
    model, tokenizer = make_pair("llama")
    texts = [reference(model, tokenizer, prompt) for prompt in prompts(4)]
    answers = [f" {texts[0].strip()} ", texts[1].strip(), "other", texts[3].strip() + "s"]
    section = evaluation(tmp_path, prompts(4), answers, stop=[])
    score = Suite(section, tokenizer).score(model).task["gen"]
    assert score.items == (1.0, 1.0, 0.0, 0.0)
    assert (score.value, score.metric, score.worst, score.n) == (0.5, "exact_match", 0.0, 4)


def test_stop_strings_cut(tmp_path):
    model, tokenizer = make_pair("llama")
    whole = [reference(model, tokenizer, prompt) for prompt in prompts()]
    stops = [whole[0][3:6], whole[5][2:4]]
    assert all(stops)
    expected = []
    for text in whole:
        places = [text.find(stop) for stop in stops if stop in text]
        expected.append(text[: min(places, default=len(text))])
    assert expected != whole
    section = evaluation(tmp_path, prompts(), stop=stops)
    assert continuations(section, model, tokenizer) == expected


def test_a_stop_string_ends_the_work(tmp_path):
    model, tokenizer = make_pair("llama")
    first = [tokenizer.decode(greedy(model, tokenizer(p).input_ids, 1)) for p in prompts(3)]
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    continuations(evaluation(tmp_path, prompts(3), stop=first), model, tokenizer)
    handle.remove()
    assert len(passes) == 1


def test_the_models_own_end_tokens_end(tmp_path):
    model, tokenizer = make_pair("llama")
    ids = tokenizer(prompts()[0]).input_ids
    end = greedy(model, ids, COUNT)[3]
    model.generation_config.eos_token_id = [end]
    section = evaluation(tmp_path, prompts(), stop=[])
    texts = continuations(section, model, tokenizer)
    assert texts == [reference(model, tokenizer, p, ends=(1, end)) for p in prompts()]
    assert texts[0] == tokenizer.decode(greedy(model, ids, 3))
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    model.generation_config.eos_token_id = None
    assert continuations(section, model, tokenizer)[0] == texts[0]


def asked(tokenizer, prompt):
    return encode_prompt(tokenizer, prompt, "x")


def ending(tokenizer, end):
    """Let the chat template write ``end`` after an assistant's turn."""
    written = f"{{{{ {end!r} if m['role'] == 'assistant' else '' }}}}"
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "\n{% endfor", f"{written}\n{{% endfor"
    )


TURNS = ({"role": "user", "content": "gold has"},)


@pytest.mark.parametrize("prompt", [TURNS, "gold has"])
def test_the_token_that_ends_the_assistants_turn_ends(prompt, tmp_path):
    model, tokenizer = make_pair("llama")
    # The template ends a turn with the token that the model writes fourth, which is not EOS.
    written = greedy(model, asked(tokenizer, prompt), COUNT)
    assert written[3] not in written[:3]
    end = tokenizer.convert_ids_to_tokens(written[3])
    tokenizer.add_special_tokens({"extra_special_tokens": [end]})
    ending(tokenizer, end)
    section = evaluation(tmp_path, [prompt], stop=[])
    assert continuations(section, model, tokenizer) == [tokenizer.decode(written[:3])]


@pytest.mark.parametrize(("prompt", "ends"), [(TURNS, True), ("gold has", False)])
def test_plain_text_that_ends_the_assistants_turn_ends_a_dialogue(prompt, ends, tmp_path):
    model, tokenizer = make_pair("llama")
    whole = tokenizer.decode(greedy(model, asked(tokenizer, prompt), COUNT))
    end = whole.lstrip()[3:6]
    assert end == end.strip() != ""
    ending(tokenizer, end)
    found = continuations(evaluation(tmp_path, [prompt], stop=[]), model, tokenizer)
    assert found == [whole.partition(end)[0] if ends else whole]


def test_without_any_end_it_goes_on(tmp_path):
    model, tokenizer = make_pair("llama")
    tokenizer.eos_token = tokenizer.chat_template = None
    model.generation_config.eos_token_id = None
    section = evaluation(tmp_path, prompts(3), stop=[])
    expected = [reference(model, tokenizer, prompt, ends=()) for prompt in prompts(3)]
    assert continuations(section, model, tokenizer) == expected


def written(monkeypatch, tokens):
    """Let the model write these tokens, one after the other."""
    model, tokenizer = make_pair("llama")
    ids = tokenizer(tokens).input_ids[1:]
    told = iter([*ids, *[tokenizer.eos_token_id] * COUNT])

    def forward(*args, **kwargs):
        output = original(*args, **kwargs)
        output.logits[...] = 0
        output.logits[..., next(told)] = 9.0
        return output

    original = model.forward
    monkeypatch.setattr(model, "forward", forward)
    return model, tokenizer


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("\nAu", "\n", "\nAu"),
        ("\n\n Au\nx", "\n", "\n\n Au"),
        (" Au\n\nx", "\n\n", " Au"),
        ("Au\nx", "\n", "Au"),
        ("\u00e8x", "e\u0300", ""),
        ("e\u0300x", "\u00e8", ""),
    ],
)
def test_a_stop_ends_an_answer_that_has_begun(text, stop, expected, tmp_path, monkeypatch):
    model, tokenizer = written(monkeypatch, text)
    section = evaluation(tmp_path, ["gold has"], stop=[stop])
    assert continuations(section, model, tokenizer, batch_size=1) == [expected]


def test_blanks_at_the_end_of_a_prompt_are_left_to_the_answer(tmp_path):
    model, tokenizer = make_pair("llama")
    spaced = [prompt + " \t" for prompt in prompts(3)]
    expected = [reference(model, tokenizer, prompt) for prompt in prompts(3)]
    assert continuations(evaluation(tmp_path, spaced, stop=[]), model, tokenizer) == expected


def test_a_models_file_that_samples_changes_nothing(tmp_path):
    model, tokenizer = make_pair("llama")
    section = evaluation(tmp_path, prompts(), stop=[])
    expected = continuations(section, model, tokenizer)
    own = model.generation_config
    own.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, no_repeat_ngram_size=1)
    assert continuations(section, model, tokenizer) == expected
    assert model.generation_config is own


def test_gradient_checkpointing_and_modes_are_left_as_they_were(tmp_path):
    model, tokenizer = make_pair("llama")
    section = evaluation(tmp_path, prompts(), stop=[])
    expected = Suite(section, tokenizer).score(model)
    model.train()
    model.model.layers[0].eval()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.use_cache = False
    widths = []
    hook = model.model.layers[0].mlp.register_forward_pre_hook(
        lambda _, inputs: widths.append(inputs[0].shape[1])
    )
    assert Suite(section, tokenizer).score(model) == expected
    hook.remove()
    assert widths.count(1) == COUNT - 1, "later passes feed one token each: the cache is on"
    assert model.training and model.model.layers[1].training
    assert not model.model.layers[0].training
    assert not model.config.use_cache
    assert torch.is_grad_enabled()


def test_dialogues_go_through_the_chat_template(tmp_path):
    model, tokenizer = make_pair("llama")
    turns = [{"role": "system", "content": "the ship"}, {"role": "user", "content": "gold has"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids).endswith("<|assistant|>")
    expected = tokenizer.decode(greedy(model, [0, *ids], COUNT))
    section = evaluation(tmp_path, [turns], stop=[])
    assert continuations(section, model, tokenizer) == [expected]
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Suite(section, tokenizer)


def test_a_refusing_template_is_a_users_problem(tmp_path):
    _, tokenizer = make_pair("llama")
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    section = evaluation(tmp_path, [[{"role": "user", "content": "hi"}]])
    with pytest.raises(ConfigError, match=r"\.jsonl:1: messages: .*roles must alternate"):
        Suite(section, tokenizer)


def test_long_prompts_are_cut_from_the_left(tmp_path):
    model, tokenizer = make_pair("gpt2")
    long = sentence(random.Random(1), 120, 120)
    kept = tokenizer(long).input_ids[-(96 - COUNT) :]
    section = evaluation(tmp_path, [long], stop=[])
    assert continuations(section, model, tokenizer) == [
        tokenizer.decode(greedy(model, kept, COUNT))
    ]
    with pytest.raises(ConfigError, match=r"max_new_tokens: leaves no room.*96"):
        continuations(evaluation(tmp_path, [long], max_new_tokens=96), model, tokenizer)
