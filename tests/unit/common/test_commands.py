# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A variable in a command that a person copies: bash and ansible-playbook read the value that was meant."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import (
    extra_var,
    quoted_extra_var,
    values_in,
)
from hypothesis import given
from hypothesis import strategies as st

#: Values that the key=value form, YAML, a template or a shell reads as something else.
ODD = [
    "/srv/a b/plan.json", "/srv/it's/plan.json", '/srv/"q"/plan.json', "/srv/a=b/c=d", "/srv/a\\nb\\", "/srv/{{ 1 + 1 }}", "/srv/{% if %}", "/srv/{# c #}",
    "/srv/a #b", "/srv/a: b", "/srv/$HOME`id`$(id)", "/srv/đ\u00a0x", "/srv/a\tb", "/srv/a\nb", "@/srv/file", "/srv/[a]", "/srv/!unsafe x", "", " ", "~/a b",
]  # fmt: skip
PLAIN = ["/var/lib/phasegate/alpha_prod_20260516T031200Z", "plans/alpha/plan.json", "~/plans/a,b@c:d+e%f"]

_PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "{{ query('ansible.builtin.vars', *names) | to_json }}"}
      vars: {names: "{{ range(%d) | map('string') | map('regex_replace', '^', 'value_') | list }}"}
"""


def test_bash_and_ansible_read_what_was_meant(tmp_path: Path) -> None:
    values = [*ODD, *PLAIN]
    playbook = tmp_path / "play.yml"
    playbook.write_text(_PLAYBOOK % len(values), encoding="utf-8")
    given = " ".join(quoted_extra_var(f"value_{n}", value) for n, value in enumerate(values))
    program = shlex.quote(str(Path(sys.executable).with_name("ansible-playbook")))
    told = subprocess.run(
        ["bash", "-c", f"{program} -i localhost, -c local {shlex.quote(str(playbook))} {given}"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_STDOUT_CALLBACK": "json", "LC_ALL": "C.UTF-8"},
    )
    shown = json.loads(told.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]["msg"]
    assert (json.loads(shown) if isinstance(shown, str) else shown) == values


@pytest.mark.parametrize("value", PLAIN)
def test_a_plain_value_is_given_plainly(value: str) -> None:
    assert quoted_extra_var("phasegate_plan", value) in (f"-e phasegate_plan={value}", f"-e 'phasegate_plan={value}'")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("a b", '{"phasegate_plan": "a b"}'),
        ("a=b", '{"phasegate_plan": "a=b"}'),
        ("it's", '{"phasegate_plan": "it\'s"}'),
        ("{{ a }}", '{"phasegate_plan": !unsafe "{{ a }}"}'),
    ],
)
def test_another_value_is_given_as_json(value: str, word: str) -> None:
    assert extra_var("phasegate_plan", value) == ["-e", word]


@pytest.mark.parametrize("value", [*ODD, *PLAIN])
def test_the_value_is_found_in_a_text(value: str) -> None:
    text = f"-e 'x\n\n    ansible-playbook a -l 'b' \\\n    {quoted_extra_var('phasegate_plan', value)} -e phasegate_other=1\n"
    assert values_in(text.partition("\n\n")[2], "phasegate_plan") == [value]


@given(st.text(st.sampled_from("-e '\"\\{}: phasegate_plan=x\n!unsafe"), max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert all(isinstance(value, str) for value in values_in(text, "phasegate_plan"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_every_value_is_found_again(value: str) -> None:
    assert values_in(quoted_extra_var("a", value), "a") == [value]
