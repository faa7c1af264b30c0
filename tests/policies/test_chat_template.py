"""Rendering: tools and variables reach the template, no template hangs, plain text stays plain."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from s2d_store.errors import InputError
from s2d_store.policies import chat_template
from s2d_store.policies.chat_template import render_chat, render_plain, template_hash
from s2d_store.policies.identity import inspect_policy
from s2d_store.policies.time_limit import TimeLimitExceeded, time_limit
from s2d_store.policies.tokenizer import load_tokenizer
from tests.support.tiny_models import BOS_ID, EOS_ID, save_tiny_model

USER = [{"role": "user", "content": "1+1=?"}]
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(str(folder))


def test_tools_and_variables_reach_the_template(tokenizer: Any) -> None:
    template = (
        "{{ tools | tojson }}|{{ think }}|{{ messages[0].tool_calls[0].function.arguments.a }}"
    )
    call = {"function": {"name": "add", "arguments": '{"a": 41}'}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "add"}}]
    ids = render_chat(tokenizer, messages, template, tools=tools, kwargs={"think": "no"})
    shown, think, argument = tokenizer.decode(ids).split("|")
    assert (json.loads(shown), think, argument) == (tools, "no", "41")
    assert messages[0]["tool_calls"] == [call], "the stored message is not changed"


def test_text_parts_are_rendered_as_text_and_others_refused(tokenizer: Any) -> None:
    parts: list[Any] = [{"type": "text", "text": "1+"}, "1=?"]
    assert render_chat(tokenizer, [{"role": "user", "content": parts}]) == render_chat(
        tokenizer, USER
    )
    with pytest.raises(InputError, match="part of type 'image'"):
        render_chat(tokenizer, [{"role": "user", "content": [{"type": "image"}]}])


def test_a_template_that_loops_is_stopped(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "RENDER_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"does not end: stopped after 0.2 s"):
        render_chat(tokenizer, USER, LOOP)
    raised: list[BaseException] = []

    def render() -> None:
        try:
            render_chat(tokenizer, USER, LOOP)
        except InputError as error:
            raised.append(error)

    other = threading.Thread(target=render)
    other.start()
    other.join(60)
    assert len(raised) == 1, "also in a thread, where signals do not reach"


def test_a_time_limit_that_is_kept_leaves_nothing_behind() -> None:
    for _ in range(200):
        try:
            with time_limit(0.001):
                time.sleep(0.001)
        except TimeLimitExceeded:
            pass
    before = threading.active_count()
    with time_limit(60):
        pass
    assert sum(range(10_000)) == 49_995_000
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ range(10**9) | list }}", "OverflowError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% if %}", "rejects the prompt"),
    ],
)
def test_what_a_template_cannot_do_is_one_error(tokenizer: Any, template: str, says: str) -> None:
    with pytest.raises(InputError, match=f"(?s){says}.*roles: user"):
        render_chat(tokenizer, USER, template)


def adding(folder: Path, template: str) -> Any:
    """The tokenizer, with special tokens put around a text; $A stands for it."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(str(folder))
    special = [("<bos>", BOS_ID), ("<eos>", EOS_ID)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=special
    )
    return tokenizer


@pytest.mark.parametrize("template", ["$A", "<bos> $A", "$A <eos>", "<bos> $A <eos>"])
def test_plain_text_has_one_bos_and_no_eos(folder: Path, tokenizer: Any, template: str) -> None:
    text = tokenizer("1+1=?", add_special_tokens=False)["input_ids"]
    tokenizing = adding(folder, template)
    assert tokenizing("1+1=?")["input_ids"] != text or template == "$A"
    before = [BOS_ID] if "<bos>" in template else []
    assert render_plain(tokenizing, USER) == before + text
    own = [{"role": "user", "content": "<bos>1+1=?"}]
    assert render_plain(tokenizing, own) == [BOS_ID, *text]


def test_hashes_of_template_and_tokenizer(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    first = inspect_policy(str(copy))[0]
    assert first.template_hash == template_hash(load_tokenizer(str(copy)).chat_template)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    edited = inspect_policy(str(copy))[0]
    assert edited.policy_id == first.policy_id and edited.template_hash != first.template_hash
    content = json.loads((copy / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (copy / "tokenizer.json").write_text(json.dumps(content))
    other = inspect_policy(str(copy))[0]
    assert other.tokenizer_fingerprint == first.tokenizer_fingerprint
    assert other.tokenizer_hash != first.tokenizer_hash
    assert template_hash("") is None and template_hash({"a": "x"}) != template_hash({"a": "y"})
