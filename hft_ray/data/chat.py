"""Renders a dialogue with the tokenizer's chat template and finds the trained turns in the text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from hft_ray.config import ConfigError, Problem
from hft_ray.data.border import Span
from hft_ray.data.examples import TURNS_ALONE, Dialogue, Message, TemplateArguments
from hft_ray.data.rendered import (
    MARK,
    OTHER_TEMPLATE,
    answer_in,
    is_short,
    left_out,
    require_answer,
    require_context,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from hft_ray.data.examples import DialoguePair


PLAIN_ANSWERS = ("a", "b")
"""Two answers that begin with different letters."""


class RewrittenTurnsError(ConfigError):
    """The template writes earlier turns otherwise once later ones follow.

    The turns have no place in the whole then, but each answer alone has one at its end.
    """


def require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot render dialogues.

    Raises:
        ConfigError: It has no chat template.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(
            Problem(
                "model.name",
                "the tokenizer has no chat template, which dialogues (messages, sharegpt, alpaca "
                "with a system text or a history) need; take an instruction-tuned model, save a "
                "chat_template.jinja beside its tokenizer, or write the data as "
                "prompt_completion strings or text",
                tokenizer.name_or_path,
            )
        )


def render(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> tuple[str, list[Span]]:
    """Render ``dialogue``, and find its trained turns by rendering it turn by turn.

    Returns:
        The text, and for each trained turn the span of characters [start, end) that begins after
        the template's assistant header and ends after its end-of-turn mark.

    Raises:
        RewrittenTurnsError: The template writes earlier turns otherwise once later ones follow;
            ``one_per_answer`` gives dialogues that it renders.
        ConfigError: No template, the template refuses the dialogue, or leaves out some of it.
    """
    require_template(tokenizer)
    messages, arguments = dialogue.messages, dialogue.arguments
    text = render_turns(tokenizer, messages, arguments)
    _require_tools(tokenizer, messages, arguments, text)
    _require_context(tokenizer, messages, arguments, text)
    spans = [
        _span(tokenizer, dialogue, index, text)
        for index, message in enumerate(messages)
        if message.trained
    ]
    return text, spans


def one_per_answer(dialogue: Dialogue) -> list[Dialogue]:
    """Return for each trained turn the dialogue that ends with it, in which it alone is trained."""
    untrained = [replace(message, trained=False) for message in dialogue.messages]
    return [
        replace(dialogue, messages=(*untrained[:index], message))
        for index, message in enumerate(dialogue.messages)
        if message.trained
    ]


def render_answers(
    tokenizer: PreTrainedTokenizerBase, pair: DialoguePair
) -> tuple[int, tuple[str, str]]:
    """Render a pair.

    Returns:
        Where the answers begin, in characters, and the prompt with each answer.

    Raises:
        ConfigError: As ``render``.
    """
    require_template(tokenizer)
    before = render_turns(tokenizer, pair.prompt, pair.arguments)
    _require_tools(tokenizer, pair.prompt, pair.arguments, before)
    _require_context(tokenizer, pair.prompt, pair.arguments, before)
    header = render_turns(tokenizer, pair.prompt, pair.arguments, header=True)
    texts = []
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        text = render_turns(tokenizer, (*pair.prompt, *answer), pair.arguments)
        if not text.startswith(before):
            raise _rewrites(name)
        for index, message in enumerate(answer):
            require_answer(text[len(before) :], message, f"{name}[{index}]")
        texts.append(text)
    start = answer_start(header, texts, lambda: _bare(tokenizer, pair.prompt, pair.arguments))
    return start, (texts[0], texts[1])


def _span(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, index: int, text: str) -> Span:
    messages, arguments = dialogue.messages, dialogue.arguments
    place = f"messages[{index}]"
    end = len(text)
    if index + 1 < len(messages):
        upto = render_turns(tokenizer, messages[: index + 1], arguments)
        if not text.startswith(upto):
            raise _rewrites(place)
        end = len(upto)
    header = _header(tokenizer, messages[:index], arguments)
    start = answer_start(header, [text], lambda: _bare(tokenizer, messages[:index], arguments))
    if start == len(header) and answer_in(text[start:end], messages[index]):
        return start, end
    # Reasoning templates end the header with a mark (<think>) that a plain answer lacks, and that
    # one with reasoning begins with.
    before = len(render_turns(tokenizer, messages[:index], arguments)) if index else 0
    if start < before:
        raise _rewrites(place)
    require_answer(text[before:end], messages[index], place)
    return start, end


def _require_context(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    arguments: TemplateArguments,
    text: str,
) -> None:
    """Refuse a template that leaves out a turn (see ``rendered``).

    A few letters may stand in the text by chance. So such turns are looked for once more with other
    words: users' are not, which no template leaves out.
    """
    require_context(text, messages)
    short = [each.role not in ("user", "assistant") and is_short(each) for each in messages]
    if not any(short):
        return
    other = [
        replace(message, content=f"{MARK}{index}{MARK}") if small else message
        for index, (message, small) in enumerate(zip(messages, short, strict=True))
    ]
    try:
        marked = render_turns(tokenizer, other, arguments)
    except ConfigError:
        return
    for index, (message, small) in enumerate(zip(other, short, strict=True)):
        if small and message.content not in marked:
            raise left_out(messages[index], index)


def _require_tools(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    arguments: TemplateArguments,
    text: str,
) -> None:
    """Refuse a template that makes the same text of the dialogue without its tools."""
    if not arguments.tools:
        return
    try:
        without = render_turns(tokenizer, messages, replace(arguments, tools=()))
    except ConfigError:
        return
    if without == text:
        names = [tool["function"]["name"] for tool in arguments.tools]
        message = (
            f"the chat template does not render tools; {OTHER_TEMPLATE}, or add 'tools' to "
            "ignore_fields"
        )
        raise ConfigError(Problem("tools", message, names))


def _header(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    arguments: TemplateArguments,
) -> str:
    """Return the text before an assistant's turn that follows ``messages``, its header included."""
    try:
        return render_turns(tokenizer, messages, arguments, header=True)
    except ConfigError:
        # Many templates cannot render a dialogue before its first user's turn.
        return _bare(tokenizer, messages, arguments)


def _bare(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    arguments: TemplateArguments,
) -> str:
    """Return the text before a plain answer: the common beginning with two different answers."""
    answers = (Message("assistant", content, trained=True) for content in PLAIN_ANSWERS)
    one, other = (render_turns(tokenizer, [*messages, answer], arguments) for answer in answers)
    return one[: common_prefix(one, other)]


def answer_start(header: str, texts: Sequence[str], bare: Callable[[], str]) -> int:
    """Return the number of characters before the answers in dialogues that end with them.

    Where the header ends with a mark that a plain answer lacks (``<think>``), the answer begins
    before it, and not after what its own first letters share with the mark (``<b>``).

    Args:
        header: The text that the model is asked with.
        texts: The dialogues with their answers.
        bare: Gives the text before a plain answer.
    """
    start = min(common_prefix(header, text) for text in texts)
    if start < len(header):
        plain = bare()
        start = min([start, *(common_prefix(plain, text) for text in texts)])
    return start


def common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """Return the number of items (characters, tokens, turns) that both begin with alike."""
    if a == b[: len(a)]:
        return len(a)
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))


def _rewrites(place: str) -> RewrittenTurnsError:
    message = (
        "the chat template writes this turn, or one before it, otherwise once later turns follow "
        "(some templates drop reasoning from earlier turns), so the trained text is not defined; "
        "use a template that keeps earlier turns, or one answer per record"
    )
    return RewrittenTurnsError(Problem(place, message))


def render_turns(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    arguments: TemplateArguments = TURNS_ALONE,
    *,
    header: bool = False,
) -> str:
    """Render ``messages``, with the header of an assistant's turn after them if asked for.

    Raises:
        ConfigError: The template refuses them.
    """
    turns = [message.as_turn() for message in messages]
    return apply_template(tokenizer, turns, arguments, header=header)


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, Any]],
    arguments: TemplateArguments = TURNS_ALONE,
    *,
    header: bool = False,
) -> str:
    """Render turns ``{"role", "content", ...}`` with the tokenizer's chat template.

    A developer's turn is a system turn for a template that does not know the role.

    Raises:
        ConfigError: The tokenizer has no template, or the template fails.
    """
    require_template(tokenizer)
    tools = list(arguments.tools) or None
    try:
        template = tokenizer.get_chat_template(tools=tools)
    except ValueError:
        raise ConfigError(_unnamed(tokenizer)) from None
    if "developer" not in template:
        turns = [_by_system(turn) for turn in turns]
    try:
        text: str = tokenizer.apply_chat_template(
            list(turns),
            tools=tools,
            tokenize=False,
            add_generation_prompt=header,
            **arguments.settings,
        )
    except Exception as error:
        # A template is a program that came with the model: it may raise anything.
        said = str(error)
        if not isinstance(error, TemplateError):
            said = f"it fails with {type(error).__name__}: {said}"
        roles = [turn["role"] for turn in turns]
        message = (
            f"the chat template refuses these roles: {said}; write the turns as it wants them (a "
            f"system text into the first user's turn), or {OTHER_TEMPLATE}"
        )
        problem = Problem("messages", message, roles)
        raise ConfigError(problem) from error
    return text


def _by_system(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**turn, "role": "system"} if turn["role"] == "developer" else turn


def _unnamed(tokenizer: PreTrainedTokenizerBase) -> Problem:
    names = ", ".join(sorted(tokenizer.chat_template))
    message = (
        f"the tokenizer has chat templates by name ({names}), and none named default; name one of "
        "them default, or save it as chat_template.jinja beside the tokenizer"
    )
    return Problem("model.name", message, tokenizer.name_or_path)
